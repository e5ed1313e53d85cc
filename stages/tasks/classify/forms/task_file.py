"""`litert/task.tflite`: one graph with tokenizer settings, vocabulary and labels inside, as MediaPipe takes it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError, first_line
from stages.measure.metrics import softmax
from stages.releasing import litert
from stages.releasing.source import ROUNDING, Source, differs
from stages.releasing.tokenization import Tokenization, lines
from stages.targets.base import Inputs
from stages.targets.tflite_nnapi import flatbuffer
from stages.tasks.base import FORWARD, INPUTS
from stages.tasks.classify.forms import task_graph, task_metadata

FORM = f"{litert.FOLDER}/task.tflite"


def write(source: Source, bundle: Path) -> str:
    """Write the task file of the longest signature and run it beside the artifact.

    Raises:
        ArtifactError: its scores are not the softmax of the artifact's logits.
    """
    model = flatbuffer.read(source.artifact / flatbuffer.MODEL)
    litert.raise_versions(model)
    task_graph.keep_longest(model, source.max_length)
    task_graph.take_segments(model)
    flatbuffer.add_metadata(model, task_metadata.NAME, task_metadata.describe(source.key))
    (bundle / FORM).parent.mkdir(exist_ok=True)
    flatbuffer.write(model, bundle / FORM)
    files = {
        task_metadata.VOCABULARY: lines(source.tokenization.lines or []),
        task_metadata.LABELS: lines(source.labels),
    }
    (bundle / FORM).write_bytes(task_metadata.append_files((bundle / FORM).read_bytes(), files))
    check(source, bundle)
    return FORM


def check(source: Source, bundle: Path) -> None:
    """Run a written task file beside the artifact.

    Raises:
        ArtifactError: its scores are not the softmax of the artifact's logits.
    """
    run = _open(bundle / FORM).get_signature_runner()
    for inputs in source.asked():
        # At full length, whatever the utterance's: the task file has the longest signature alone.
        padded = source.signature.padded(FORWARD, inputs, [source.max_length])
        wanted, found = softmax(source.answer(padded)), _scores(run, padded)
        if found.shape != wanted.shape or not np.abs(found - wanted).max() <= ROUNDING:
            raise differs(FORM, source.key, found, wanted)


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


def differences(path: Path, labels: list[str], source: Tokenization, name: str) -> Iterator[str]:
    """Compare what a task file holds beside its graph with what a bundle's own files make of it."""
    yield from packed(path, labels, source)
    model = flatbuffer.read(path)
    found = [
        bytes(model.buffers[entry.buffer].data)
        for entry in model.metadata or []
        if entry.name == task_metadata.NAME.encode()
    ]
    if found != [task_metadata.describe(name)]:
        yield f"'{FORM}' has other metadata than MediaPipe's for a text classifier of that name"


def packed(path: Path, labels: list[str], source: Tokenization) -> Iterator[str]:
    """Look into the zip behind a task file: it holds two files and no more, each once."""
    wanted = {task_metadata.VOCABULARY: lines(source.lines or []), task_metadata.LABELS: lines(labels)}
    if not zipfile.is_zipfile(path):
        yield f"'{FORM}' holds no files, expected {sorted(wanted)}"
        return
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if sorted(names) != sorted(wanted):
            yield f"'{FORM}' holds the files {sorted(names)}, expected {sorted(wanted)}"
            return
        yield from (
            f"'{file}' in '{FORM}' is not the bundle's"
            for file, content in wanted.items()
            if archive.read(file) != content.encode()
        )
