"""`litert/`: the task file for MediaPipe, and a model that runtimes too old for the artifact refuse."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.bundling import task_graph, task_metadata
from stages.bundling.source import ROUNDING, Source, differs
from stages.bundling.tokenization import lines
from stages.core.errors import ArtifactError, first_line
from stages.measure.metrics import softmax
from stages.targets.base import SIGNATURE, Inputs
from stages.targets.tflite_nnapi import flatbuffer
from stages.tasks.base import FORWARD, INPUTS

FOLDER = "litert"
MODEL = f"{FOLDER}/{flatbuffer.MODEL}"
TASK = f"{FOLDER}/task.tflite"


def write_model(source: Source, bundle: Path) -> str:
    """Write the artifact with higher operator versions where it declares too low ones.

    Returns:
        Where the model lies that an app should load: the artifact itself where its versions are right.

    Raises:
        ArtifactError: the copy answers otherwise than the artifact.
    """
    model = flatbuffer.read(source.artifact / flatbuffer.MODEL)
    if not task_graph.raise_versions(model):
        return flatbuffer.MODEL
    (bundle / FOLDER).mkdir(exist_ok=True)
    flatbuffer.write(model, bundle / MODEL)
    shutil.copyfile(source.artifact / SIGNATURE, bundle / FOLDER / SIGNATURE)
    source.check_directory(MODEL, bundle / FOLDER)
    return MODEL


def write_task(source: Source, bundle: Path) -> str:
    """Write the task file of the longest signature and run it beside the artifact.

    Raises:
        ArtifactError: its scores are not the softmax of the artifact's logits.
    """
    model = flatbuffer.read(source.artifact / flatbuffer.MODEL)
    task_graph.raise_versions(model)
    task_graph.keep_longest(model, source.max_length)
    task_graph.take_segments(model)
    _add_metadata(model, task_metadata.describe(source.key))
    (bundle / FOLDER).mkdir(exist_ok=True)
    flatbuffer.write(model, bundle / TASK)
    files = {
        task_metadata.VOCABULARY: lines(source.tokenization.lines or []),
        task_metadata.LABELS: lines(source.labels),
    }
    (bundle / TASK).write_bytes(task_metadata.append_files((bundle / TASK).read_bytes(), files))
    check_task(source, bundle)
    return TASK


def _add_metadata(model: Any, content: bytes) -> None:
    from ai_edge_litert import schema_py_generated as schema

    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(content, np.uint8)
    model.buffers.append(buffer)
    entry.name, entry.buffer = task_metadata.NAME.encode(), len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]


def check_task(source: Source, bundle: Path) -> None:
    """Run a written task file beside the artifact.

    Raises:
        ArtifactError: its scores are not the softmax of the artifact's logits.
    """
    run = _open(bundle / TASK).get_signature_runner()
    for inputs in source.asked():
        # At full length, whatever the utterance's: the task file has the longest signature alone.
        padded = source.signature.padded(FORWARD, inputs, [source.max_length])
        wanted, found = softmax(source.answer(padded)), _scores(run, padded)
        if found.shape != wanted.shape or not np.abs(found - wanted).max() <= ROUNDING:
            raise differs(TASK, source.key, found, wanted)


def _scores(run: Any, padded: Inputs) -> NDArray[np.float32]:
    ids, mask = (padded[name] for name in INPUTS)
    named = dict(zip(task_metadata.INPUTS, (ids, mask, np.zeros_like(ids)), strict=True))
    scores: NDArray[np.float32] = run(**named)[task_metadata.OUTPUT]
    return scores


def _open(path: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    try:
        opened = Interpreter(model_path=str(path), num_threads=1)
        opened.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ArtifactError(f"LiteRT cannot open '{path.name}': {first_line(error)}") from error
    return opened
