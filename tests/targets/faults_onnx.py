"""Faults to inject into ONNX artifacts: what a gate must catch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def zero_onnx_layer(path: Path) -> None:
    """Set the largest matrix product's weight to zero in place, at whatever precision it is stored.

    Args:
        path: a `model.onnx`, or the artifact directory that holds it.

    Raises:
        ValueError: the graph has no constant matrix product.
    """
    import onnx
    from onnx import numpy_helper

    file = path / "model.onnx" if path.is_dir() else path
    model = onnx.load(file)
    values = {item.name: item for item in model.graph.initializer}
    sizes = {name: int(np.prod(values[name].dims)) for name in _products(model, values)}
    if not sizes:
        raise ValueError(f"'{file}' has no constant matrix product")
    name = max(sizes, key=lambda key: sizes[key])
    weight, zero = numpy_helper.to_array(values[name]), _products(model, values)[name]
    level = 0 if zero is None else numpy_helper.to_array(values[zero])
    values[name].CopyFrom(numpy_helper.from_array(np.broadcast_to(level, weight.shape).astype(weight.dtype), name))
    file.write_bytes(model.SerializeToString(deterministic=True))


def _products(model: Any, values: dict[str, Any]) -> dict[str, str | None]:
    """Weight of a `MatMul` → its zero point, None in float. One column a channel, so zero points broadcast."""
    expanded = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    found: dict[str, str | None] = {}
    for node in model.graph.node:
        if node.op_type == "MatMulInteger":
            found[node.input[1]] = node.input[3]
        elif node.op_type == "MatMul" and node.input[1] in expanded:
            source = expanded[node.input[1]]
            found[source.input[0]] = source.input[2]
        elif node.op_type == "MatMul" and node.input[1] in values:
            found[node.input[1]] = None
    return {name: zero for name, zero in found.items() if name in values}
