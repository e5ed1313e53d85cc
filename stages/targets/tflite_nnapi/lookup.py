"""Run what a converted file does with token ids alone: the lookup of their vectors, in every signature."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError, first_line
from stages.targets.base import INPUTS
from stages.targets.tflite_nnapi import flatbuffer


def looked_up(converted: Path, ids: NDArray[np.int32]) -> NDArray[np.float32]:
    """Look up ids with LiteRT.

    Args:
        converted: output of `convert`.
        ids: int32 [n].

    Returns:
        Their vectors, fp32 [n, width]; NaN where signatures disagree.

    Raises:
        ArtifactError: ids are read by anything but one lookup, or that fails.
    """
    model = flatbuffer.read(converted / flatbuffer.MODEL)
    try:
        found = [_run(model, graph, ids) for graph in _lookups(model)]
    except (RuntimeError, ValueError) as error:
        raise ArtifactError(f"LiteRT cannot look up ids of '{converted}': {first_line(error)}") from error
    same = np.all([np.array_equal(one, found[0]) for one in found])
    return found[0] if same else np.full_like(found[0], np.nan)


def _lookups(model: Any) -> Iterator[Any]:
    """Yield each subgraph with nothing left of it but the lookup of its ids, as its one result."""
    subgraphs = model.subgraphs
    for signature in model.signatureDefs:
        graph, read_by = subgraphs[signature.subgraphIndex], []
        ids = {int(item.tensorIndex) for item in signature.inputs if item.name.decode() == INPUTS[0]}
        graph.inputs = np.array(sorted(ids), np.int32)
        for name, operator in flatbuffer.operators_of(model, graph):
            if ids & {int(index) for index in operator.inputs}:
                read_by.append((name, operator))
                if name == "RESHAPE":
                    ids.add(int(operator.outputs[0]))
        found = [name for name, _ in read_by if name != "RESHAPE"]
        if found != ["EMBEDDING_LOOKUP"]:
            raise ArtifactError(f"'{INPUTS[0]}' is read by {', '.join(found)}", expected="one EMBEDDING_LOOKUP")
        graph.operators = [operator for _, operator in read_by]
        graph.outputs = next(operator.outputs for name, operator in read_by if name != "RESHAPE")
        yield graph


def _run(model: Any, graph: Any, ids: NDArray[np.int32]) -> NDArray[np.float32]:
    from ai_edge_litert.interpreter import Interpreter

    model.subgraphs, model.signatureDefs = [graph], []
    interpreter = Interpreter(model_content=bytes(flatbuffer.packed(model)), num_threads=1)
    interpreter.allocate_tensors()
    place, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]["index"]
    length = int(place["shape"][-1])
    rows = []
    for chunk in np.pad(ids, (0, -len(ids) % length)).reshape(-1, 1, length):
        interpreter.set_tensor(place["index"], chunk)
        interpreter.invoke()
        rows.append(interpreter.get_tensor(result).reshape(length, -1))
    return np.concatenate(rows)[: len(ids)].astype(np.float32)
