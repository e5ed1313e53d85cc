"""Do without a fifth axis, which NNAPI and most kernels lack, where it is only there to be cut along another."""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.targets.tflite_nnapi import flatbuffer, storage

MOST = 4
"""Axes that NNAPI's operands may have."""
SHAPED = {"RESHAPE": [1], "SLICE": [1, 2]}
"""Operator → its inputs that hold a shape, or places on each axis."""
PLAIN_SLICE = 1
"""Version of a SLICE of four axes and less; one of five makes the converter write a newer one, for all of a file."""


def fold(model: Any) -> int:
    """Make the last two axes of tensors of five one, where every operator that has them takes both whole.

    Before: ModernBERT's queries, keys and values [1, length, 3, heads, size], cut along the third axis. After: the same
    numbers in the same order as [1, length, 3, heads × size]. Any other model is left as it is, to the byte.

    Args:
        model: changed in place.

    Returns:
        Tensors that lost an axis.
    """
    count, left = 0, set[int]()
    for graph in model.subgraphs:
        wide = {at for at, tensor in enumerate(graph.tensors) if len(storage.shape_of(tensor)) == MOST + 1}
        touching = [one for one in flatbuffer.operators_of(model, graph) if wide & {*one[1].inputs, *one[1].outputs}]
        if wide and all(_takes_both_whole(model, graph, *one) for one in touching):
            left |= _fold(model, graph, wide, touching)
            count += len(wide)
    read = {int(tensor.buffer) for graph in model.subgraphs for tensor in graph.tensors}
    for buffer in left - read:
        model.buffers[buffer].data = None
    if count and not any(len(storage.shape_of(tensor)) > MOST for graph in model.subgraphs for tensor in graph.tensors):
        names = flatbuffer.operator_names()
        for code in model.operatorCodes:
            if names[max(code.builtinCode, code.deprecatedBuiltinCode)] == "SLICE":
                code.version = PLAIN_SLICE
    return count


def _takes_both_whole(model: Any, graph: Any, kind: str, operator: Any) -> bool:
    if kind == "RESHAPE":
        return operator.builtinOptions is None  # else it says the shape a second time
    if kind != "SLICE":
        return False
    begin, size = (_numbers(model, graph, operator.inputs[at]) for at in SHAPED[kind])
    whole = storage.shape_of(graph.tensors[operator.inputs[0]])[-2:]
    return not any(begin[-2:]) and tuple(size[-2:]) in {whole, (-1, -1)} if begin and size else False


def _numbers(model: Any, graph: Any, index: int) -> list[int]:
    """Return a constant of integers, empty where it is none."""
    tensor = graph.tensors[index]
    data = model.buffers[tensor.buffer].data
    if data is None or not len(data):
        return []
    found: list[int] = storage.unpack("INT32", storage.shape_of(tensor), data).tolist()
    return found


def _fold(model: Any, graph: Any, wide: set[int], touching: list[tuple[str, Any]]) -> set[int]:
    """Fold a subgraph's tensors, and return the buffers whose numbers its constants had before."""
    left = set[int]()
    for kind, operator in touching:
        for tensor, numbers in [(graph.tensors[i], _numbers(model, graph, i)) for i in operator.inputs[SHAPED[kind]]]:
            if len(numbers) == MOST + 1:
                both = -1 if numbers[-1] == -1 else numbers[-2] * numbers[-1]
                left.add(int(tensor.buffer))
                tensor.shape = np.array([MOST], np.int32)
                tensor.buffer = flatbuffer.add_buffer(model, np.array([*numbers[:-2], both], np.int32))
    for index in wide:
        shape = storage.shape_of(graph.tensors[index])
        graph.tensors[index].shape = np.array([*shape[:-2], shape[-2] * shape[-1]], np.int32)
    return left
