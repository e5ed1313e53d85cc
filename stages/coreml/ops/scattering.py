"""Writing by index (MIL: `scatter_gather.py`)."""

# mypy: no-warn-return-any
# (arithmetic on arrays of any type is Any to mypy)
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stages.coreml.errors import Mismatch, UnsupportedOp
from stages.coreml.ops._limits import axis as checked_axis
from stages.coreml.ops.gathering import checked_indices, point_index
from stages.coreml.registry import Tensor, op


def _assign(target: Tensor, index: Any, updates: Tensor) -> None:
    target[index] = updates


_MODES: dict[str, Callable[[Tensor, Any, Tensor], None]] = {
    "update": _assign,
    "add": np.add.at,
    "sub": np.subtract.at,
    "mul": np.multiply.at,
    "div": np.divide.at,
    "max": np.maximum.at,
    "min": np.minimum.at,
}


def _write(data: Tensor, index: Any, updates: Tensor, mode: str) -> Tensor:
    if mode not in _MODES:
        raise UnsupportedOp(f"scatter mode '{mode}'", expected=f"one of: {', '.join(_MODES)}")
    result = data.copy()
    if result[index].shape != updates.shape:
        raise Mismatch(f"updates of shape {updates.shape}", expected=str(result[index].shape))
    _MODES[mode](result, index, updates)
    return result


@op("scatter", returns="data", matching=("data", "updates"))
def scatter(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool | None = None,
) -> Tensor:
    """Combine slices along an axis with updates."""
    along = checked_axis(axis, data.ndim)
    index = checked_indices(indices, data.shape[along], validate_indices)
    return _write(data, (slice(None),) * along + (index,), updates, mode)


@op("scatter_along_axis", returns="data", matching=("data", "updates"))
def scatter_along_axis(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool | None = None,
) -> Tensor:
    """Combine single elements, one index per update."""
    along = checked_axis(axis, data.ndim)
    index: list[Tensor] = list(np.indices(indices.shape, sparse=True))
    index[along] = checked_indices(indices, data.shape[along], validate_indices)
    return _write(data, tuple(index), updates, mode)


@op("scatter_nd", returns="data", matching=("data", "updates"))
def scatter_nd(
    data: Tensor, indices: Tensor, updates: Tensor, mode: str = "add", validate_indices: bool | None = None
) -> Tensor:
    """Combine slices at index tuples with updates."""
    return _write(data, point_index(indices, data.shape, validate_indices), updates, mode)
