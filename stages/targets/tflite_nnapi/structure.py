"""Read a TFLite artifact as the computation it stands for: quantisation taken away, weights decompressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stages.core.errors import ArtifactError
from stages.measure.structure import Constant, Graph, Input, Node, Rounded, Value, half
from stages.targets.tflite_nnapi import flatbuffer, storage, stored

ROUNDING = {"QUANTIZE", "DEQUANTIZE"}
PASSING = {"RESHAPE", "SLICE", "TRANSPOSE"}
"""Operators that move numbers and compute none: their result has the grid of their first input."""
JOINING = "CONCATENATION"
"""The operator whose operands all have the grid of its result."""
FIXED = {
    "LOGISTIC": {"INT8": (2.0**-8, -128), "INT16": (2.0**-15, 0)},
    "SOFTMAX": {"INT8": (2.0**-8, -128), "INT16": (2.0**-15, 0)},
    "TANH": {"INT8": (2.0**-7, 0), "INT16": (2.0**-15, 0)},
}
"""Operator → scale and zero point of its result, which LiteRT fixes by what the function can give."""
ZERO_IS_ZERO = {"EMBEDDING_LOOKUP", "FULLY_CONNECTED"}
"""Operators whose kernels take the integer 0 of a weight for the number, most of them whatever the file says."""
GRIDS = {"INT8", "INT16", "UINT8"}
FORMAT_OPTIONS = {"asymmetricQuantizeInputs", "quantizedBiasType"}
"""Options that choose a number format, not a computation."""


def read(artifact: Path) -> Graph:
    """Return signature and output → value.

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
    joined = {
        int(index): operator.outputs[0]
        for name, operator in flatbuffer.operators_of(model, graph)
        for index in operator.inputs
        if name == JOINING
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
            whole = graph.tensors[joined[index]] if index in joined else None
            values[index] = _rounded(tensor, sources["0"] if name in ROUNDING else made, name, whole)
    return [(item, values[int(item.tensorIndex)]) for item in signature.outputs]


def _rounded(tensor: Any, value: Value, maker: str, whole: Any) -> Value:
    """Keep how a tensor is rounded beside the value; `whole` is what it becomes a part of as it is, if anything."""
    dtype, found = flatbuffer.tensor_types()[tensor.type], storage.points(tensor)
    if dtype not in GRIDS or found is None:
        return value
    limits = np.iinfo(storage.DTYPES[dtype])
    scale, zero = (float(numbers[0]) for numbers in found)
    # A grid that is not its input's, where it must be, is a difference of its own (`_broken_grids`).
    borrowed = maker in PASSING or FIXED.get(maker, {}).get(dtype) == (scale, zero)
    borrowed = borrowed or (whole is not None and np.array_equal(found, storage.points(whole) or ()))
    return Rounded.on_grid(value, scale, zero, int(limits.min), int(limits.max), borrowed=borrowed)


def _broken_grids(graph: Any, name: str, operator: Any) -> dict[str, str]:
    """Say where an operator's grids contradict each other in a way that kernels ignore, each in its own manner."""
    inputs = [storage.points(graph.tensors[index]) for index in operator.inputs if index >= 0]
    result = storage.points(graph.tensors[operator.outputs[0]])
    if name in PASSING and inputs[0] is not None and not np.array_equal(inputs[0], result or ()):
        return {"grid": "not that of its input"}
    if name in ZERO_IS_ZERO and inputs[1] is not None and inputs[1][1].any():
        return {"zero point": "not 0 in a weight"}
    if name == "FULLY_CONNECTED" and len(inputs) == 3 and all(one is not None for one in inputs):
        (first, _), (second, _), (bias, zero) = (one for one in inputs if one is not None)
        if zero.any() or not np.allclose(bias, first * second, rtol=1e-5, atol=0):
            return {"bias scale": "not that of the product"}
    return {}


def _options(operator: Any) -> dict[str, Any]:
    found = vars(operator.builtinOptions) if operator.builtinOptions is not None else {}
    plain = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in found.items()}
    return {key: value for key, value in plain.items() if key not in FORMAT_OPTIONS}


def _constant(model: Any, graph: Any, tensor: Any) -> Constant:
    name, dtype = tensor.name.decode(), flatbuffer.tensor_types()[tensor.type]
    found = stored.read(model, graph, tensor, dtype)
    if found.scale is None:
        return Constant(name, found.levels, half if dtype == "FLOAT16" else None)
    return Constant(name, found.expanded, found.allowed())
