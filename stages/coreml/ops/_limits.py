"""Bounds on what a program may allocate: a saved file must not be able to exhaust memory."""

from __future__ import annotations

import functools
import math

import numpy as np

from stages.coreml.dtypes import Array
from stages.coreml.errors import Mismatch

MAX_ELEMENTS = 1 << 28
"""Elements of one intermediate tensor: 1 GiB of fp32, 30 times the largest of a 512-token BERT-large."""


def allocate(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a tensor about to be made.

    Raises:
        Mismatch: negative, or larger than any transformer needs.
    """
    if min(shape, default=0) < 0 or len(shape) > 16 or math.prod(shape) > MAX_ELEMENTS:
        raise Mismatch(f"a tensor of shape {shape}", expected=f"at most {MAX_ELEMENTS} elements")
    return shape


def broadcast(*arrays: Array) -> None:
    """Refuse operands whose broadcast shape would be absurd; cheap for ordinary ones.

    Raises:
        Mismatch: it would, or they do not broadcast.
    """
    most = 1
    for array in arrays:  # plainly: asked of every sum and product
        most *= array.size or 1
    if most > MAX_ELEMENTS:
        try:
            allocate(np.broadcast_shapes(*(array.shape for array in arrays)))
        except ValueError as error:
            raise Mismatch(f"shapes {[array.shape for array in arrays]} do not broadcast") from error


def axis(index: int, rank: int) -> int:
    """Return a non-negative axis.

    Raises:
        Mismatch: the tensor has no such axis.
    """
    if not -rank <= index < rank:
        raise Mismatch(f"axis {index}", expected=f"one of a tensor of rank {rank}")
    return index % rank


@functools.cache
def axes(indices: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Return distinct non-negative axes.

    Raises:
        Mismatch: out of range or repeated.
    """
    found = tuple(axis(index, rank) for index in indices)
    if len(set(found)) != len(found):
        raise Mismatch(f"axes {indices} repeat one axis of {rank}")
    return found
