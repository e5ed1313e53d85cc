"""Reading by index (MIL: `scatter_gather.py`)."""

from __future__ import annotations

import numpy as np

from stages.coreml.errors import Mismatch
from stages.coreml.ops._limits import allocate
from stages.coreml.ops._limits import axis as checked_axis
from stages.coreml.registry import Tensor, op


def checked_indices(indices: Tensor, size: int, validate: bool | None = None) -> Tensor:
    """Return non-negative int64 indices into an axis.

    Args:
        indices: may count from the end before iOS 17, whose operations have no `validate_indices`.
        size: of the axis.
        validate: what `validate_indices` says; given at all, a negative index lies outside.

    Raises:
        Mismatch: one lies outside; Core ML's behaviour is then an error or undefined, so there is nothing to compute.
    """
    if indices.dtype.kind not in "iu":
        raise Mismatch(f"indices of type {indices.dtype}", expected="integers")
    found = indices.astype(np.int64)
    low, high = (int(found.min()), int(found.max())) if found.size else (0, 0)
    if found.size and not (-size if validate is None else 0) <= low <= high < size:
        raise Mismatch(f"indices between {low} and {high} into an axis of {size}")
    return found if low >= 0 else np.where(found < 0, found + size, found)


@op("gather", arithmetic="moves")
def gather(
    x: Tensor, indices: Tensor, axis: int = 0, batch_dims: int = 0, validate_indices: bool | None = None
) -> Tensor:
    """x[..., indices, ...] along an axis; the first `batch_dims` axes of both go together."""
    along = checked_axis(axis, x.ndim)
    index = checked_indices(indices, x.shape[along], validate_indices)
    if batch_dims == 0:
        allocate((*x.shape[:along], *index.shape, *x.shape[along + 1 :]))
        return np.take(x, index, along)
    lead = _lead(x, index, batch_dims)
    rows, picks = x.reshape(-1, *x.shape[batch_dims:]), index.reshape(-1, *index.shape[batch_dims:])
    taken = [np.take(row, pick, along - batch_dims) for row, pick in zip(rows, picks, strict=True)]
    return np.stack(taken).reshape(*lead, *taken[0].shape)


def _lead(x: Tensor, indices: Tensor, batch_dims: int) -> tuple[int, ...]:
    lead = x.shape[:batch_dims]
    if not 0 <= batch_dims <= min(x.ndim, indices.ndim) or indices.shape[:batch_dims] != lead or 0 in lead:
        raise Mismatch(f"{batch_dims} batch axes of {x.shape} and {indices.shape}")
    return lead


@op("gather_along_axis", arithmetic="moves")
def gather_along_axis(x: Tensor, indices: Tensor, axis: int = 0, validate_indices: bool | None = None) -> Tensor:
    """Numpy's take_along_axis."""
    along = checked_axis(axis, x.ndim)
    return np.take_along_axis(x, checked_indices(indices, x.shape[along], validate_indices), along)


@op("gather_nd", arithmetic="moves")
def gather_nd(x: Tensor, indices: Tensor, batch_dims: int = 0, validate_indices: bool | None = None) -> Tensor:
    """Slices of x at index tuples, which lie along the last axis of indices."""
    lead = _lead(x, indices, batch_dims) if batch_dims else ()
    rows, picks = x.reshape(-1, *x.shape[batch_dims:]), indices.reshape(-1, *indices.shape[batch_dims:])
    if batch_dims == 0:
        rows, picks = x[None], indices[None]
    taken = [row[point_index(pick, row.shape, validate_indices)] for row, pick in zip(rows, picks, strict=True)]
    return np.stack(taken).reshape(*lead, *taken[0].shape)


def point_index(indices: Tensor, shape: tuple[int, ...], validate: bool | None) -> tuple[Tensor, ...]:
    """Split index tuples [..., depth] into one checked array per axis.

    Raises:
        Mismatch: more indices than axes, or one outside its axis.
    """
    if indices.ndim < 1 or indices.shape[-1] > len(shape):
        raise Mismatch(f"index tuples of {indices.shape} into shape {shape}")
    return tuple(checked_indices(indices[..., i], shape[i], validate) for i in range(indices.shape[-1]))
