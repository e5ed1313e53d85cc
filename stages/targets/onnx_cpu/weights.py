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
    sideways = turned(model)
    found = {}
    for name, value in values.items():
        if value.ndim < 2 or value.size < 1024:
            continue
        if value.dtype in INTEGERS:
            value = _dequantised(name, values, model)
        elif value.dtype.kind != "f":
            continue
        wide = np.asarray(value, np.float32)
        found[name] = wide.swapaxes(-1, -2) if name in sideways else wide
    return found


def turned(model: Any) -> set[str]:
    """Names of initialisers that are stored as [in, out]."""
    sources = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    found = set()
    for node in model.graph.node:
        transposed = any(item.name == "transB" and item.i for item in node.attribute)
        if node.op_type in PRODUCTS or (node.op_type == "Gemm" and not transposed):
            found.add(sources.get(node.input[1], node.input[1]))
    return found


def scale_and_zero(name: str, values: dict[str, Any], model: Any) -> tuple[str, str | None, int]:
    """Find what expands an integer weight.

    Returns:
        The initialisers of its scale and of its zero point (None where there is none), and the axis of its channels.

    Raises:
        ArtifactError: nothing reads the weight, or nothing scales it.
    """
    reader = next((node for node in model.graph.node if name in node.input), None)
    if reader is None:
        raise ArtifactError(f"integer weight '{name}' is not used", next_step="run `dvc repro`")
    expands = reader.op_type == "DequantizeLinear"
    scale = reader.input[1] if expands else _scale_of(reader, values, model)
    if scale not in values:
        raise ArtifactError(f"integer weight '{name}' has no scale", next_step="run `dvc repro`")
    position = 2 if expands else 3  # of MatMulInteger; lookups are symmetric
    zero = reader.input[position] if len(reader.input) > position else None
    axis = next((item.i for item in reader.attribute if item.name == "axis"), 1) if expands else -1
    return scale, zero if zero in values else None, axis


def _dequantised(name: str, values: dict[str, Any], model: Any) -> Any:
    scale_name, zero_name, axis = scale_and_zero(name, values, model)
    integers, scale = values[name].astype(np.float32), values[scale_name].astype(np.float32)
    zero = np.zeros_like(scale) if zero_name is None else values[zero_name].astype(np.float32)
    if scale.ndim == 1 and scale.size > 1:
        shape = [1] * integers.ndim
        shape[axis] = scale.size
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
