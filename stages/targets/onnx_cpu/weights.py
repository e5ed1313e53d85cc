"""Read the weights of an ONNX artifact back as fp32, whatever they are stored as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError
from stages.targets.onnx_cpu import graph

PRODUCTS = {"MatMul", "MatMulInteger"}
INTEGERS = (np.int8, np.uint8)


def weights(artifact: Path) -> dict[str, NDArray[np.float32]]:
    """List every stored weight of two dimensions or more and 1,024 elements or more, dequantised.

    Args:
        artifact: output of `quantize`.

    Returns:
        Initialiser → fp32; the second factor of a matrix product is turned to [out, in], as torch has it.

    Raises:
        ArtifactError: the model cannot be read, or an integer weight has no scale.
    """
    from onnx import numpy_helper

    model = graph.load(artifact / graph.MODEL)
    try:
        return _read(model, {item.name: numpy_helper.to_array(item) for item in model.graph.initializer})
    except (IndexError, TypeError, ValueError) as error:
        raise ArtifactError(f"cannot read weights of '{artifact}': {error}", next_step="run `dvc repro`") from error


def _read(model: Any, values: dict[str, Any]) -> dict[str, NDArray[np.float32]]:
    expanded = {node.input[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    turned = _turned(model, {node.output[0]: name for name, node in expanded.items()})
    found = {}
    for name, value in values.items():
        if value.ndim < 2 or value.size < 1024:
            continue
        if value.dtype in INTEGERS:
            value = _dequantised(name, values, expanded.get(name))
        elif value.dtype.kind != "f":
            continue
        wide = np.asarray(value, np.float32)
        found[name] = wide.swapaxes(-1, -2) if name in turned else wide
    return found


def _turned(model: Any, sources: dict[str, str]) -> set[str]:
    """Names of initialisers that are stored as [in, out]."""
    found = set()
    for node in model.graph.node:
        transposed = any(item.name == "transB" and item.i for item in node.attribute)
        if node.op_type in PRODUCTS or (node.op_type == "Gemm" and not transposed):
            found.add(sources.get(node.input[1], node.input[1]))
    return found


def _dequantised(name: str, values: dict[str, Any], node: Any) -> Any:
    # Where no DequantizeLinear says so, the names do: onnxruntime's and `embeddings` agree on them.
    stem = name.removesuffix("_quantized")
    names = [*node.input[1:]] if node is not None else [f"{stem}_scale", f"{stem}_zero_point"]
    if not names or names[0] not in values:
        raise ArtifactError(f"integer weight '{name}' has no scale", next_step="run `dvc repro`")
    integers, scale = values[name].astype(np.float32), values[names[0]].astype(np.float32)
    zero = values[names[1]].astype(np.float32) if len(names) > 1 and names[1] in values else np.float32(0)
    if scale.ndim == 1 and scale.size > 1:
        axis = next((item.i for item in node.attribute if item.name == "axis"), 1) if node is not None else -1
        shape = [1] * integers.ndim
        shape[axis] = scale.size
        scale, zero = scale.reshape(shape), zero.reshape(shape) if zero.size > 1 else zero
    return (integers - zero) * scale
