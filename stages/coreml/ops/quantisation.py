"""Quantised activations (MIL iOS 17: `quantization_ops.py`)."""

# mypy: no-warn-return-any
# (arithmetic on arrays of any type is Any to mypy)
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stages.coreml import dtypes
from stages.coreml.dtypes import DType
from stages.coreml.errors import Mismatch, UnsupportedOp
from stages.coreml.ops._limits import axis as checked_axis
from stages.coreml.registry import Tensor, op


def along_axis(x: Tensor, values: Tensor, axis: int | None) -> Tensor:
    """Shape a scalar, or one value per slice along an axis, to broadcast with x.

    Raises:
        Mismatch: another number of values, or a vector without an axis.
    """
    if values.ndim == 0:
        return values
    if values.ndim != 1 or axis is None or values.size not in (1, x.shape[checked_axis(axis, x.ndim)]):
        raise Mismatch(f"scale or zero point of shape {values.shape} along axis {axis} of {x.shape}")
    return values.reshape([-1 if i == checked_axis(axis, x.ndim) else 1 for i in range(x.ndim)])


def _output_type(_types: Mapping[str, DType], constants: Mapping[str, Any]) -> DType:
    return dtypes.from_name(constants["output_dtype"])


@op("quantize", returns=_output_type, arithmetic="accumulates", matching=("input", "scale"))
def quantize(
    input: Tensor,  # noqa: A002 (MIL's name)
    scale: Tensor,
    output_dtype: str,
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    """clip(round(input / scale) + zero point), rounding halves to even."""
    if output_dtype not in ("int8", "uint8"):
        raise UnsupportedOp(f"quantisation to '{output_dtype}'", expected="int8 or uint8")
    target = dtypes.from_name(output_dtype).numpy
    levels = np.rint(input / along_axis(input, scale, axis))
    if zero_point is not None:
        levels = levels + along_axis(input, zero_point, axis)
    info = np.iinfo(target)
    return np.clip(levels, info.min, info.max).astype(target)


@op("dequantize", returns="scale", arithmetic="accumulates", matching=("input", "zero_point"))
def dequantize(
    input: Tensor,  # noqa: A002 (MIL's name)
    scale: Tensor,
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    """(input - zero point) * scale."""
    levels = input.astype(np.float32)
    if zero_point is not None:
        levels = levels - along_axis(input, zero_point, axis)
    return (levels * along_axis(input, scale, axis)).astype(np.float32, copy=False)
