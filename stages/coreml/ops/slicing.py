"""Slices of tensors (MIL: `slice_*`, `sliding_windows`)."""

from __future__ import annotations

import numpy as np

from stages.coreml.errors import Mismatch
from stages.coreml.ops._limits import allocate
from stages.coreml.ops._limits import axis as checked_axis
from stages.coreml.registry import Bools, Ints, Tensor, op


def _index(
    shape: tuple[int, ...],
    begin: Ints,
    end: Ints,
    stride: Ints | None,
    begin_mask: Bools | None,
    end_mask: Bools | None,
    squeeze_mask: Bools | None,
) -> tuple[int | slice, ...]:
    rank = len(shape)
    steps = stride or (1,) * rank
    no = (False,) * rank
    first_open, last_open, single = begin_mask or no, end_mask or no, squeeze_mask or no
    if {len(part) for part in (begin, end, steps, first_open, last_open, single)} != {rank} or 0 in steps:
        raise Mismatch(f"slice from {begin} to {end} by {stride} of shape {shape}")
    found: list[int | slice] = []
    for i, size in enumerate(shape):
        if single[i]:
            found.append(0 if first_open[i] else checked_axis(begin[i], size))
        else:
            found.append(slice(None if first_open[i] else begin[i], None if last_open[i] else end[i], steps[i]))
    return tuple(found)


@op("slice_by_index", arithmetic="moves")
def slice_by_index(
    x: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Tensor:
    """x[begin:end:stride]; masks ignore a bound or take one element and drop its axis."""
    return np.asarray(x[_index(x.shape, begin, end, stride, begin_mask, end_mask, squeeze_mask)])


@op("slice_update", arithmetic="moves", matching=("x", "update"))
def slice_update(
    x: Tensor,
    update: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Tensor:
    """A copy of x with x[begin:end:stride] = update."""
    return update_in_place(x.copy(), update, begin, end, stride, begin_mask, end_mask, squeeze_mask)


def update_in_place(
    x: Tensor,
    update: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Tensor:
    """Return x itself with x[begin:end:stride] = update, where nothing else reads x (`inplace`)."""
    replaced = x[_index(x.shape, begin, end, stride, begin_mask, end_mask, squeeze_mask)]
    if replaced.shape != update.shape:
        raise Mismatch(f"update of shape {update.shape}", expected=str(replaced.shape))
    replaced[...] = update
    return x


@op("slice_by_size", arithmetic="moves")
def slice_by_size(x: Tensor, begin: Ints, size: Ints) -> Tensor:
    """`size` elements from `begin` along each axis; size -1 goes to the end."""
    if len(begin) != x.ndim or len(size) != x.ndim:
        raise Mismatch(f"slice of {size} from {begin} of shape {x.shape}")
    parts = []
    for first, count, whole in zip(begin, size, x.shape, strict=True):
        start = first + whole if first < 0 else first
        stop = whole if count == -1 else start + count
        if not 0 <= start <= stop <= whole:
            raise Mismatch(f"slice of {size} from {begin} of shape {x.shape}")
        parts.append(slice(start, stop))
    return x[tuple(parts)]


@op("sliding_windows", arithmetic="moves")
def sliding_windows(x: Tensor, axis: int, size: int, stride: int = 1) -> Tensor:
    """Windows of `size` along an axis: that axis becomes [windows, size]."""
    along = checked_axis(axis, x.ndim)
    if not 0 < size <= x.shape[along] or stride < 1:
        raise Mismatch(f"windows of {size} by {stride} along an axis of {x.shape[along]}")
    windows = np.lib.stride_tricks.sliding_window_view(x, size, along)
    windows = windows[(slice(None),) * along + (slice(None, None, stride),)]
    allocate(windows.shape)
    return np.moveaxis(windows, -1, along + 1).copy()
