"""Undo what the converter folds into weights that layers share, so that each is stored once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.targets.tflite_nnapi import flatbuffer, storage

SAME = 1e-6
"""Relative; the converter folds with one rounding."""


@dataclass(frozen=True)
class _Normalised:
    """What a normalisation gives: the tensor of `before * scale + shift`, which the graph computes anyway."""

    tensor: int
    scale: NDArray[np.float32]
    shift: NDArray[np.float32]


@dataclass(frozen=True)
class _Folded:
    """A layer that could read a normalisation's result, and the weight that it then needs."""

    graph: Any
    operator: Any
    normalised: _Normalised
    weight: int


def unfold(model: Any) -> int:
    """Give layers that share a weight the one that the checkpoint has.

    Before: `FC(norm, W * scale, b + W @ shift)`, beside `y = norm * scale + shift` for the residual, and elsewhere
    `FC(x, W, b)`: one weight for a first layer, another for all that follow. After: `FC(y, W, b)`. A model that
    shares nothing is left as it is, to the byte.

    Args:
        model: fp32, changed in place.

    Returns:
        Bytes of weights that nothing reads any more.
    """
    users: dict[int, list[_Folded | None]] = {}
    for graph in model.subgraphs:
        for buffer, found in _layers(model, graph):
            users.setdefault(buffer, []).append(found)
    gone, sizes = list[int](), list[int]()
    for buffer, layers in users.items():
        whole = [layer for layer in layers if layer is not None]
        if (
            len(whole) == len(layers)
            and len({(layer.weight, layer.normalised.shift.tobytes()) for layer in whole}) == 1
        ):
            sizes.append(len(model.buffers[buffer].data))
            _rewrite(model, whole)
            gone.append(buffer)
    for buffer in gone:
        _drop(model, buffer)
    return sum(sizes)


def _layers(model: Any, graph: Any) -> Iterator[tuple[int, _Folded | None]]:
    """Yield the weight of every linear layer, and how to do without it."""
    normalised = dict(_normalised(model, graph))
    layers = [op for name, op in flatbuffer.operators_of(model, graph) if name == "FULLY_CONNECTED"]
    weights = {int(graph.tensors[op.inputs[1]].buffer): int(op.inputs[1]) for op in layers}
    for op in layers:
        buffer, source = int(graph.tensors[op.inputs[1]].buffer), normalised.get(int(op.inputs[0]))
        value, found = _constant(model, graph, int(op.inputs[1])), None
        if source is not None and value is not None and len(op.inputs) == 3 and op.inputs[2] >= 0:
            found = next(
                (
                    _Folded(graph, op, source, index)
                    for other, index in weights.items()
                    if other != buffer and _is_scaled(value, _constant(model, graph, index), source.scale)
                ),
                None,
            )
        yield buffer, found


def _is_scaled(value: NDArray[np.float32], original: NDArray[np.float32] | None, scale: NDArray[np.float32]) -> bool:
    if original is None or original.shape != value.shape:
        return False
    return bool(np.allclose(original * scale, value, rtol=SAME, atol=0))


def _normalised(model: Any, graph: Any) -> Iterator[tuple[int, _Normalised]]:
    scaled: dict[int, tuple[int, NDArray[np.float32]]] = {}
    for name, op in flatbuffer.operators_of(model, graph):
        if name not in {"ADD", "MUL"}:
            continue
        value = _constant(model, graph, int(op.inputs[1]))
        if value is not None and name == "MUL":
            scaled[int(op.outputs[0])] = int(op.inputs[0]), value.reshape(-1)
        elif value is not None and int(op.inputs[0]) in scaled:
            before, scale = scaled[int(op.inputs[0])]
            yield before, _Normalised(int(op.outputs[0]), scale, value.reshape(-1))


def _rewrite(model: Any, layers: list[_Folded]) -> None:
    biases: dict[int, NDArray[np.float32]] = {}
    for layer in layers:
        weight = _constant(model, layer.graph, layer.weight)
        bias = int(layer.graph.tensors[layer.operator.inputs[2]].buffer)
        assert weight is not None
        if bias not in biases:
            folded = storage.unpack("FLOAT32", (len(weight),), model.buffers[bias].data)
            biases[bias] = (folded - weight.astype(np.float64) @ layer.normalised.shift).astype(np.float32)
        inputs = [layer.normalised.tensor, layer.weight, *layer.operator.inputs[2:]]
        layer.operator.inputs = np.array(inputs, np.int32)
    for bias, value in biases.items():
        model.buffers[bias].data = storage.pack("FLOAT32", value)


def _drop(model: Any, buffer: int) -> None:
    """Remove the tensors of a buffer, which nothing reads any more, and renumber the others."""
    model.buffers[buffer].data = None
    for position, graph in enumerate(model.subgraphs):
        kept = [index for index, tensor in enumerate(graph.tensors) if tensor.buffer != buffer]
        places = {old: new for new, old in enumerate(kept)} | {-1: -1}  # -1: an input left out
        graph.tensors = [graph.tensors[index] for index in kept]
        for part in (graph, *graph.operators):
            part.inputs = np.array([places[int(index)] for index in part.inputs], np.int32)
            part.outputs = np.array([places[int(index)] for index in part.outputs], np.int32)
        for signature in model.signatureDefs:
            if signature.subgraphIndex == position:
                for item in (*signature.inputs, *signature.outputs):
                    item.tensorIndex = places[int(item.tensorIndex)]


def _constant(model: Any, graph: Any, index: int) -> NDArray[np.float32] | None:
    tensor = graph.tensors[index]
    data = model.buffers[tensor.buffer].data
    if data is None or flatbuffer.tensor_types()[tensor.type] != "FLOAT32":
        return None
    return storage.unpack("FLOAT32", storage.shape_of(tensor), data)
