"""Making, joining and ordering tensors (MIL: `tensor_operation.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import numpy as np

from stages.coreml import dtypes
from stages.coreml.dtypes import DType
from stages.coreml.errors import Mismatch, UnsupportedOp
from stages.coreml.ops._limits import allocate
from stages.coreml.ops._limits import axis as checked_axis
from stages.coreml.registry import Ints, Tensor, Tensors, op


@op("concat", returns="values", arithmetic="moves", matching=("values",))
def concat(values: Tensors, axis: int, interleave: bool = False) -> Tensor:
    """Join along an axis; interleaved: slice 0 of each, slice 1 of each, and so on."""
    rows = [np.atleast_1d(value) for value in values]
    along = checked_axis(axis, rows[0].ndim)
    if not interleave:
        return np.concatenate(rows, along)
    joined = np.stack(rows, along + 1)
    return joined.reshape(*joined.shape[:along], -1, *joined.shape[along + 2 :])


@op("stack", returns="values", arithmetic="moves", matching=("values",))
def stack(values: Tensors, axis: int) -> Tensor:
    """Join along a new axis."""
    return np.stack(values, checked_axis(axis, values[0].ndim + 1))


@op("split", arithmetic="moves")
def split(x: Tensor, axis: int, num_splits: int | None = None, split_sizes: Ints | None = None) -> tuple[Tensor, ...]:
    """Cut along an axis into equal parts or parts of given sizes."""
    along = checked_axis(axis, x.ndim)
    if split_sizes is None:
        if not num_splits or x.shape[along] % num_splits:
            raise Mismatch(f"{num_splits} equal parts of an axis of {x.shape[along]}")
        split_sizes = (x.shape[along] // num_splits,) * num_splits
    if sum(split_sizes) != x.shape[along] or min(split_sizes) < 0:
        raise Mismatch(f"parts {split_sizes} of an axis of {x.shape[along]}")
    ends = tuple(accumulate(split_sizes))
    lead = (slice(None),) * along
    return tuple(x[(*lead, slice(end - size, end))] for size, end in zip(split_sizes, ends, strict=True))


@op("tile", arithmetic="moves")
def tile(x: Tensor, reps: Ints) -> Tensor:
    """Repeat along each axis."""
    if len(reps) != x.ndim:
        raise Mismatch(f"reps {reps} for rank {x.ndim}")
    allocate(tuple(size * times for size, times in zip(x.shape, reps, strict=True)))
    return np.tile(x, reps)


@op("pad", arithmetic="moves")
def pad(x: Tensor, pad: Ints, mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    """Pad the last axes; pairs (before, after) from the outermost padded axis inwards."""
    pairs = [(pad[2 * i], pad[2 * i + 1]) for i in range(len(pad) // 2)]
    if len(pad) % 2 or len(pairs) > x.ndim or min(pad, default=0) < 0:
        raise Mismatch(f"padding {pad} of rank {x.ndim}")
    widths = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    allocate(tuple(size + before + after for size, (before, after) in zip(x.shape, widths, strict=True)))
    if mode == "constant":
        return np.pad(x, widths, constant_values=x.dtype.type(constant_val))
    if mode == "reflect":
        return np.pad(x, widths, mode="reflect")
    if mode == "replicate":
        return np.pad(x, widths, mode="edge")
    raise UnsupportedOp(f"pad mode '{mode}'", expected="constant, reflect or replicate")


@op("fill", returns="value", arithmetic="moves")
def fill(shape: Ints, value: Tensor) -> Tensor:
    """A tensor of one value."""
    return np.full(allocate(shape), value.reshape(()), value.dtype)


@op("fill_like", returns="value", arithmetic="moves")
def fill_like(ref_tensor: Tensor, value: Tensor) -> Tensor:
    """A tensor of one value in another's shape."""
    return np.full(ref_tensor.shape, value.reshape(()), value.dtype)


@op("shape", returns=dtypes.INT32, arithmetic="moves")
def shape(x: Tensor) -> Tensor:
    """The shape as a vector."""
    return np.array(x.shape, np.int32)


@op("range_1d", returns="start", matching=("start", "end", "step"))
def range_1d(start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    """Numbers from start, by step, up to but without end."""
    first, last, by = (value.item() for value in (start, end, step))
    if by == 0 or not np.isfinite([first, last, by]).all():
        raise Mismatch(f"range from {first} to {last} by {by}")
    allocate((max(0, int(np.ceil((last - first) / by))),))
    return np.arange(first, last, by, dtype=start.dtype)


@op("band_part", arithmetic="moves")
def band_part(x: Tensor, lower: int = -1, upper: int = -1) -> Tensor:
    """Keep `lower` diagonals below the main one and `upper` above; -1 keeps all."""
    distance = np.arange(x.shape[-2])[:, None] - np.arange(x.shape[-1])[None, :]
    keep = np.ones(distance.shape, np.bool_)
    if lower >= 0:
        keep &= distance <= lower
    if upper >= 0:
        keep &= -distance <= upper
    return np.where(keep, x, x.dtype.type(0))


@op("cumsum")
def cumsum(x: Tensor, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Tensor:
    """Running sum, optionally from the end and without the element itself."""
    along = checked_axis(axis, x.ndim)
    source = np.flip(x, along) if reverse else x
    total = np.cumsum(source, along, dtype=x.dtype)
    if exclusive:
        total = np.roll(total, 1, along)
        total[(slice(None),) * along + (slice(0, 1),)] = 0
    return np.flip(total, along) if reverse else total


@op("one_hot", returns="on_value", arithmetic="moves", matching=("on_value", "off_value"))
def one_hot(indices: Tensor, one_hot_vector_size: int, on_value: Tensor, off_value: Tensor, axis: int = -1) -> Tensor:
    """A new axis that is `on_value` at each index and `off_value` elsewhere."""
    allocate((*indices.shape, one_hot_vector_size))
    hot = np.where(indices[..., None] == np.arange(one_hot_vector_size), on_value, off_value)
    return np.moveaxis(hot, -1, checked_axis(axis, hot.ndim))


@op("non_zero", returns=dtypes.INT32, arithmetic="moves")
def non_zero(x: Tensor) -> Tensor:
    """Indices of elements that are not zero, [n, rank]."""
    return np.argwhere(x).astype(np.int32)


@op("argsort", returns=dtypes.INT32, arithmetic="moves")
def argsort(x: Tensor, axis: int = -1, ascending: bool = False) -> Tensor:
    """Indices that sort along an axis; equal elements keep their order."""
    keys = x if ascending else _descending(x)
    return np.argsort(keys, checked_axis(axis, x.ndim), kind="stable").astype(np.int32)


def _descending(x: Tensor) -> Tensor:
    # Negating int32's or uint8's extremes overflows; the complement reverses their order without.
    return -x if x.dtype.kind == "f" else ~x


def _index_type(_types: Mapping[str, DType], constants: Mapping[str, Any]) -> DType:
    return dtypes.from_name(constants.get("output_indices_dtype") or "int32")


@op("topk", returns=("x", _index_type), arithmetic="moves")
def topk(
    x: Tensor,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,  # noqa: ARG001
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> tuple[Tensor, ...]:
    """The k largest (or smallest) along an axis and their indices, in order of value.

    Without `sort` MIL defines no order; Apple's tests expect that of value then too.
    """
    along = checked_axis(axis, x.ndim)
    if not 0 < k <= x.shape[along]:
        raise Mismatch(f"the {k} largest of an axis of {x.shape[along]}")
    order = np.take(argsort(x, along, ascending), np.arange(k), along)
    values = np.take_along_axis(x, order, along)
    return (values, order.astype(dtypes.from_name(output_indices_dtype).numpy)) if return_indices else (values,)
