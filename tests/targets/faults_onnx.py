"""Faults to inject into ONNX artifacts: what a gate must catch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stages.targets.onnx_cpu import graph


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
    sizes = {name: int(np.prod(values[name].dims)) for name in sorted(_products(model, values))}
    if not sizes:
        raise ValueError(f"'{file}' has no constant matrix product")
    name = max(sizes, key=lambda key: sizes[key])
    weight = numpy_helper.to_array(values[name])
    zero = 0x88 if weight.dtype == np.uint8 else 0  # two levels a byte, with 8 in the middle
    values[name].CopyFrom(numpy_helper.from_array(np.full_like(weight, zero), name))
    file.write_bytes(model.SerializeToString(deterministic=True))


def _products(model: Any, values: dict[str, Any]) -> set[str]:
    """Weights of matrix products, whatever they are stored as."""
    expanded = graph.expansions(model)
    factors = {node.input[1] for node in model.graph.node if node.op_type in {"MatMul", *graph.INTEGER_PRODUCTS}}
    return {expanded.get(name, (name, ""))[0] for name in factors} & set(values)
