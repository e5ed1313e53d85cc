"""Reductions (MIL: `reduction.py`)."""

# mypy: no-warn-return-any
# (arithmetic on arrays of any type is Any to mypy)
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stages.coreml import dtypes
from stages.coreml.dtypes import DType
from stages.coreml.ops._limits import axes as checked_axes
from stages.coreml.ops._limits import axis as checked_axis
from stages.coreml.registry import Ints, Tensor, op

_Reduce = Callable[[Tensor, tuple[int, ...] | None, bool], Tensor]


def _log_sum_exp(x: Tensor, over: tuple[int, ...] | None, keep: bool) -> Tensor:
    peak = x.max(over, keepdims=True)
    total = np.log(np.exp(x - peak).sum(over, keepdims=True)) + peak
    return total if keep else np.squeeze(total, over if over is not None else tuple(range(x.ndim)))


def _mean(x: Tensor, over: tuple[int, ...] | None, keep: bool) -> Tensor:
    """As `x.mean`, which takes five times as long to begin."""
    if x.dtype != np.float32:
        return x.mean(over, keepdims=keep)
    total = x.sum(over, keepdims=keep)
    return total / np.float32(x.size / max(total.size, 1))


_REDUCTIONS: dict[str, _Reduce] = {
    "reduce_l1_norm": lambda x, over, keep: np.abs(x).sum(over, keepdims=keep, dtype=x.dtype),
    "reduce_l2_norm": lambda x, over, keep: np.sqrt(np.square(x).sum(over, keepdims=keep, dtype=x.dtype)),
    "reduce_log_sum": lambda x, over, keep: np.log(x.sum(over, keepdims=keep)),
    "reduce_log_sum_exp": _log_sum_exp,
    "reduce_max": lambda x, over, keep: x.max(over, keepdims=keep),
    "reduce_mean": _mean,
    "reduce_min": lambda x, over, keep: x.min(over, keepdims=keep),
    "reduce_prod": lambda x, over, keep: x.prod(over, keepdims=keep, dtype=x.dtype),
    "reduce_sum": lambda x, over, keep: x.sum(over, keepdims=keep, dtype=x.dtype),
    "reduce_sum_square": lambda x, over, keep: np.square(x).sum(over, keepdims=keep, dtype=x.dtype),
}


def _reduction(function: _Reduce) -> Callable[..., Tensor]:
    def apply(x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
        return np.asarray(function(x, None if axes is None else checked_axes(axes, x.ndim), keep_dims), x.dtype)

    return apply


for _name, _function in _REDUCTIONS.items():
    op(_name)(_reduction(_function))


def _index_type(_types: Mapping[str, DType], constants: Mapping[str, Any]) -> DType:
    return dtypes.from_name(constants.get("output_dtype") or "int32")


@op("reduce_argmax", returns=_index_type)
def reduce_argmax(x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Tensor:
    """Index of the largest element."""
    found = np.argmax(x, checked_axis(axis, x.ndim), keepdims=keep_dims)
    return np.asarray(found, dtypes.from_name(output_dtype).numpy)


@op("reduce_argmin", returns=_index_type)
def reduce_argmin(x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Tensor:
    """Index of the smallest element."""
    found = np.argmin(x, checked_axis(axis, x.ndim), keepdims=keep_dims)
    return np.asarray(found, dtypes.from_name(output_dtype).numpy)
