"""Read a TFLite artifact as the computation it stands for: quantisation taken away, weights decompressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError
from stages.measure.structure import Allowed, Constant, Graph, Input, Node, Rounded, Value, half, uniform
from stages.targets.tflite_nnapi import flatbuffer, storage

ROUNDING = {"QUANTIZE", "DEQUANTIZE"}
PASSING = {"RESHAPE", "SLICE", "TRANSPOSE"}
"""Operators that move numbers and compute none."""
GRIDS = {"INT8", "INT16", "UINT8"}
FORMAT_OPTIONS = {"asymmetricQuantizeInputs", "quantizedBiasType"}
"""Options that choose a number format, not a computation."""


def read(artifact: Path) -> Graph:
    """Return signature and output → value.

    Args:
        artifact: output of `convert` or `quantize`.

    Raises:
        ArtifactError: the file cannot be read, contradicts itself, or stores a type that no precision of ours has.
    """
    model = flatbuffer.read(artifact / flatbuffer.MODEL)
    try:
        return {
            f"{signature.signatureKey.decode()} {item.name.decode()}": value
            for signature in model.signatureDefs
            for item, value in _outputs(model, signature)
        }
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"cannot follow the graph of '{artifact}': {error!r}", next_step="run `dvc repro`") from (
            error
        )


def _outputs(model: Any, signature: Any) -> list[tuple[Any, Value]]:
    graph = model.subgraphs[signature.subgraphIndex]
    types = flatbuffer.tensor_types()
    inputs = {int(item.tensorIndex): item.name.decode() for item in signature.inputs}
    values: dict[int, Value] = {
        index: Input(f"{name} {types[graph.tensors[index].type]} {list(graph.tensors[index].shape)}")
        for index, name in inputs.items()
    }
    # Operators are stored in an order in which they can be executed.
    for name, operator in flatbuffer.operators_of(model, graph):
        sources = {}
        for position, index in enumerate(int(i) for i in operator.inputs):
            if index >= 0:
                if index not in values:
                    values[index] = _constant(model, graph, graph.tensors[index])
                sources[str(position)] = values[index]
        for number, index in enumerate(int(i) for i in operator.outputs):
            tensor = graph.tensors[index]
            options = _options(operator) | _broken_grids(graph, name, operator)
            made = Node(name, tensor.name.decode(), sources, options, number)
            values[index] = _rounded(tensor, sources["0"] if name in ROUNDING else made)
    return [(item, values[int(item.tensorIndex)]) for item in signature.outputs]


def _rounded(tensor: Any, value: Value) -> Value:
    dtype, quantization = flatbuffer.tensor_types()[tensor.type], tensor.quantization
    if dtype not in GRIDS or quantization is None or quantization.scale is None:
        return value
    limits = np.iinfo(storage.DTYPES[dtype])
    return Rounded.on_grid(
        value, float(quantization.scale[0]), float(quantization.zeroPoint[0]), int(limits.min), int(limits.max)
    )


def _broken_grids(graph: Any, name: str, operator: Any) -> dict[str, str]:
    """Say where an operator's grids contradict each other in a way that kernels ignore, each in its own manner."""
    scales = [scale for index in operator.inputs if index >= 0 and (scale := _scale(graph.tensors[index])) is not None]
    result = _scale(graph.tensors[operator.outputs[0]])
    if name in PASSING and scales and result is not None and not np.array_equal(scales[0], result):
        return {"grid": "not that of its input"}
    if name == "FULLY_CONNECTED" and len(scales) == 3:
        first, second, bias = scales
        if not np.allclose(bias, first * second, rtol=1e-5, atol=0):
            return {"bias scale": "not that of the product"}
    return {}


def _scale(tensor: Any) -> NDArray[np.float32] | None:
    quantization = tensor.quantization
    empty = quantization is None or quantization.scale is None or len(quantization.scale) == 0
    return None if empty else np.asarray(quantization.scale, np.float32)


def _options(operator: Any) -> dict[str, Any]:
    found = vars(operator.builtinOptions) if operator.builtinOptions is not None else {}
    plain = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in found.items()}
    return {key: value for key, value in plain.items() if key not in FORMAT_OPTIONS}


def _constant(model: Any, graph: Any, tensor: Any) -> Constant:
    name, dtype = tensor.name.decode(), flatbuffer.tensor_types()[tensor.type]
    data = model.buffers[tensor.buffer].data
    if data is None:
        raise ValueError(f"tensor '{name}' is neither computed nor stored")
    stored, found = storage.unpack(dtype, storage.shape_of(tensor), data), storage.grid(model, graph, tensor)
    if found is None:
        return Constant(name, stored, half if dtype == "FLOAT16" else None)
    return Constant(name, found.expand(stored), _allowed(found, stored, storage.bits(dtype)))


def _allowed(grid: storage.Grid, levels: NDArray[Any], bits: int) -> Allowed:
    bound = uniform(grid.scale, levels.reshape(grid.shape), bits)
    return lambda source: bound(source.reshape(grid.shape)).reshape(source.shape)
