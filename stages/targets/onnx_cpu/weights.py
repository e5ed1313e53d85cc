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
            value = _dequantised(name, values, model)
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


def _dequantised(name: str, values: dict[str, Any], model: Any) -> Any:
    reader = next((node for node in model.graph.node if name in node.input), None)
    if reader is None:
        raise ArtifactError(f"integer weight '{name}' is not used", next_step="run `dvc repro`")
    expands = reader.op_type == "DequantizeLinear"
    scale = values.get(reader.input[1] if expands else _scale_of(reader, values, model))
    if scale is None:
        raise ArtifactError(f"integer weight '{name}' has no scale", next_step="run `dvc repro`")
    position = 2 if expands else 3  # of MatMulInteger; lookups are symmetric
    zero = values.get(reader.input[position]) if len(reader.input) > position else None
    integers, scale = values[name].astype(np.float32), scale.astype(np.float32)
    zero = np.zeros_like(scale) if zero is None else zero.astype(np.float32)
    if scale.ndim == 1 and scale.size > 1:
        shape = [1] * integers.ndim
        shape[next((item.i for item in reader.attribute if item.name == "axis"), 1) if expands else -1] = scale.size
        scale, zero = scale.reshape(shape), zero.reshape(shape) if zero.size > 1 else zero
    return (integers - zero) * scale


def _scale_of(reader: Any, values: dict[str, Any], model: Any) -> str:
    """Follow integers → Cast → Mul; names do not lead there, since equal initialisers are merged."""
    makers = {output: node for node in model.graph.node for output in node.output}
    uses = {source: node for node in model.graph.node for source in node.input}
    cast = uses.get(reader.output[0])
    if cast is None or cast.op_type != "Cast":
        return ""
    product = uses.get(cast.output[0])
    if product is None or product.op_type != "Mul":
        return ""
    # The weight's scale alone, multiplied by the activation's, or looked up for each row.
    near = [source for source in product.input if source != cast.output[0]]
    far = [source for name in near if name in makers for source in makers[name].input]
    return next((name for name in (*near, *far) if name in values), "")
