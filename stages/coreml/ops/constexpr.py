"""Decompression of weights (MIL iOS 16 `constexpr_ops.py`, iOS 18 `compression.py`).

Arguments arrive in their declared storage (fp16 stays fp16), and arithmetic happens in the type coremltools'
`decompress` uses, so that results agree bit for bit.
"""

# mypy: no-warn-return-any
# (arithmetic on arrays of any type is Any to mypy)
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from stages.coreml import dtypes
from stages.coreml.dtypes import DType
from stages.coreml.errors import Mismatch
from stages.coreml.ops._limits import axis as checked_axis
from stages.coreml.ops.quantisation import along_axis
from stages.coreml.registry import Ints, Tensor, op


def _blocks(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Repeat one value per block over the elements of each block.

    Raises:
        Mismatch: the blocks do not tile the shape.
    """
    if values.ndim != len(shape) or any(
        have < 1 or want % have for have, want in zip(values.shape, shape, strict=True)
    ):
        raise Mismatch(f"blocks of shape {values.shape} over {shape}")
    for axis, size in enumerate(shape):
        if 1 < values.shape[axis] < size:  # 1 broadcasts without a copy
            values = np.repeat(values, size // values.shape[axis], axis)
    return values


@op("constexpr_affine_dequantize", returns="scale")
def affine_dequantize(quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: int) -> Tensor:
    """(data - zero point) * scale, per tensor or per channel; fp32, then rounded to the scale's type."""
    levels = quantized_data.astype(np.float32) - along_axis(quantized_data, zero_point, axis).astype(np.float32)
    return (levels * along_axis(quantized_data, scale, axis)).astype(scale.dtype)


def _cast_type(_types: Mapping[str, DType], constants: Mapping[str, Any]) -> DType:
    return dtypes.from_name(constants["output_dtype"])


@op("constexpr_cast", returns=_cast_type)
def cast(source_val: Tensor, output_dtype: str) -> Tensor:
    """Convert stored fp16 to fp32."""
    return source_val.astype(dtypes.from_name(output_dtype).numpy)


@op("constexpr_blockwise_shift_scale", returns="scale")
def blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """Scale * (data - offset), one scale per block."""
    if offset is not None and offset.shape != scale.shape:
        raise Mismatch(f"offset of shape {offset.shape}", expected=f"{scale.shape}, as scale")
    levels = data.astype(scale.dtype)
    factors = _blocks(scale, data.shape)
    if offset is not None:
        levels = levels - _blocks(offset, data.shape)
    return np.asarray(factors * levels, scale.dtype)


def _look_up(indices: Tensor, lut: Tensor, vector_axis: int | None) -> Tensor:
    """Replace each index by its entry in the table of its block; entries are vectors along `vector_axis`.

    Args:
        indices: [d0, ..., dk].
        lut: [blocks of d0, ..., blocks of dk, entries, vector length].
        vector_axis: where vectors lie in the result.
    """
    if lut.ndim != indices.ndim + 2 or (indices.size and int(indices.max()) >= lut.shape[-2]):
        raise Mismatch(f"indices of shape {indices.shape} into tables of shape {lut.shape}")
    where = []
    for axis, (size, tables) in enumerate(zip(indices.shape, lut.shape, strict=False)):
        if tables < 1 or size % tables:
            raise Mismatch(f"{tables} tables over an axis of {size}")
        table = np.arange(size) // (size // tables)
        where.append(table.reshape([-1 if i == axis else 1 for i in range(indices.ndim)]))
    found = lut[(*where, indices.astype(np.intp))]
    if lut.shape[-1] == 1:
        return found[..., 0]
    if vector_axis is None:
        raise Mismatch("a table of vectors without vector_axis")
    along = checked_axis(vector_axis, indices.ndim)
    shape = [size * lut.shape[-1] if i == along else size for i, size in enumerate(indices.shape)]
    return np.moveaxis(found, -1, along + 1).reshape(shape)


def _packed(data: Tensor, count: int, dtype: DType) -> Tensor:
    if data.dtype != np.uint8 or data.ndim != 1 or data.size != -(-count * dtype.bits // 8):
        raise Mismatch(f"{data.size} bytes for {count} elements of '{dtype.name}'")
    return dtypes.decode(data, count, dtype)


_BY_WIDTH = {kind.bits: kind for kind in (dtypes.UINT1, dtypes.UINT2, dtypes.UINT4, dtypes.UINT6)}


@op("constexpr_lut_to_dense", returns="lut")
def lut_to_dense(indices: Tensor, lut: Tensor, shape: Ints | None = None, vector_axis: int | None = None) -> Tensor:
    """Look indices up in tables; with `shape` (iOS 16) indices are packed bits and there is one table."""
    if shape is None:
        return _look_up(indices, lut, vector_axis)
    bits = int(math.log2(max(lut.size, 1)))
    if lut.ndim != 1 or lut.size not in (2, 4, 16, 64, 256):
        raise Mismatch(f"a table of {lut.shape}", expected="2, 4, 16, 64 or 256 entries")
    count = math.prod(shape)
    index = _packed(indices, count, _BY_WIDTH[bits]) if bits < 8 else indices
    if index.size != count:
        raise Mismatch(f"{index.size} indices for shape {shape}")
    return lut[index].reshape(shape)


def scattered(values: Tensor, mask: Tensor) -> Tensor:
    """Put values [n], in order, where the mask is set; zero elsewhere.

    Raises:
        Mismatch: it is set in more or fewer places.
    """
    chosen = mask != 0
    if values.ndim != 1 or values.size != int(chosen.sum()):
        raise Mismatch(f"{values.shape} values for {int(chosen.sum())} places of a mask")
    dense = np.zeros(mask.shape, values.dtype)
    dense[chosen] = values
    return dense


@op("constexpr_sparse_to_dense", returns="nonzero_data")
def sparse_to_dense(nonzero_data: Tensor, mask: Tensor, shape: Ints | None = None) -> Tensor:
    """Spread values over a bit mask; with `shape` (iOS 16) the mask is packed bits."""
    if shape is None:
        return scattered(nonzero_data, mask)
    return scattered(nonzero_data, _packed(mask, math.prod(shape), dtypes.UINT1).reshape(shape))


@op("constexpr_lut_to_sparse", returns=("indices_mask", "lut"))
def lut_to_sparse(
    indices_mask: Tensor, indices_nonzero_data: Tensor, lut: Tensor, vector_axis: int | None = None
) -> tuple[Tensor, Tensor]:
    """Look sparse indices up; returns the mask of the result and its values."""
    dense = _look_up(scattered(indices_nonzero_data, indices_mask), lut, vector_axis)
    mask = indices_mask
    if lut.shape[-1] > 1 and vector_axis is not None:
        mask = np.repeat(indices_mask, lut.shape[-1], checked_axis(vector_axis, indices_mask.ndim))
    return mask, dense[mask != 0]


@op("constexpr_sparse_blockwise_shift_scale", returns=("data_mask", "scale"))
def sparse_blockwise_shift_scale(
    data_mask: Tensor, nonzero_data: Tensor, scale: Tensor, offset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Scale * (data - offset) of the values a mask chooses; returns the mask and the values."""
    dense = blockwise_shift_scale(scattered(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask != 0]
