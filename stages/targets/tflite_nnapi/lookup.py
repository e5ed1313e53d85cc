"""Run what a converted file does with token ids alone: the lookup of their vectors, in every signature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError, first_line
from stages.targets.tflite_nnapi import flatbuffer
from stages.targets.tflite_nnapi.entries import TOKENS
from stages.tasks.base import IDS

CALLED = {IDS, TOKENS}
"""How signatures call ids."""


def looked_up(converted: Path, ids: NDArray[np.int32]) -> NDArray[np.float32]:
    """Look up ids with LiteRT.

    Returns:
        NaN where signatures disagree.

    Raises:
        ArtifactError: ids are read by anything but one lookup, or that fails.
    """
    model = flatbuffer.read(converted / flatbuffer.MODEL)
    _cut(model)
    try:
        found = _run(model, ids)
    except (RuntimeError, ValueError) as error:
        raise ArtifactError(f"LiteRT cannot look up ids of '{converted}': {first_line(error)}") from error
    same = all(np.array_equal(one, found[0]) for one in found)
    return found[0] if same else np.full_like(found[0], np.nan)


def _cut(model: Any) -> None:
    """Leave nothing of each signature but the lookup of its ids, in place."""
    read = set[int]()
    for signature in model.signatureDefs:
        graph, readers = model.subgraphs[signature.subgraphIndex], []
        signature.inputs = [item for item in signature.inputs if item.name.decode() in CALLED]
        ids = {int(item.tensorIndex) for item in signature.inputs}
        for name, operator in flatbuffer.operators_of(model, graph):
            if ids & {int(index) for index in operator.inputs}:
                readers.append((name, operator))
                if name == "RESHAPE":
                    ids.add(int(operator.outputs[0]))
        found = [(name, operator) for name, operator in readers if name != "RESHAPE"]
        if [name for name, _ in found] != ["EMBEDDING_LOOKUP"]:
            names = ", ".join(name for name, _ in found) or "nothing"
            raise ArtifactError(f"ids are read by {names}", expected="one EMBEDDING_LOOKUP")
        graph.operators = [operator for _, operator in readers]
        graph.inputs = np.array([item.tensorIndex for item in signature.inputs], np.int32)
        graph.outputs = found[0][1].outputs
        del signature.outputs[1:]
        (signature.outputs[0].tensorIndex,) = graph.outputs
        read |= {int(graph.tensors[index].buffer) for _, operator in readers for index in operator.inputs}
    for index, buffer in enumerate(model.buffers):
        if index not in read:
            buffer.data = None


def _run(model: Any, ids: NDArray[np.int32]) -> list[NDArray[np.float32]]:
    """Return what each signature looks up, fp32 [n, width]."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter, found = Interpreter(model_content=bytes(flatbuffer.packed(model)), num_threads=1), []
    for signature in model.signatureDefs:
        runner = interpreter.get_signature_runner(signature.signatureKey.decode())
        ((name, detail),) = runner.get_input_details().items()
        length = int(detail["shape"][-1])
        chunks = np.pad(ids, (0, -len(ids) % length)).reshape(-1, 1, length)
        rows = [next(iter(runner(**{name: chunk}).values())).reshape(length, -1) for chunk in chunks]
        found.append(np.concatenate(rows)[: len(ids)].astype(np.float32, copy=False))
    return found
