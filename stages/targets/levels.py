"""A weight as an artifact stores it: numbers of few bits, and the scales, table or mask that they are expanded by.

Each target reads its own format into this in one module, `stored.py`; what an artifact weighs, how far it may lie from
its sources, and what a fault breaks all follow from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.measure.structure import Allowed, uniform

Array = NDArray[Any]


@dataclass(eq=False)
class Stored:
    """One constant of an artifact.

    Attributes:
        name: in the file.
        levels: stored numbers: floats, integers, or indices into `table`.
        scale: of integers: on each axis of `levels` one for all, one each, or one per block.
        zero: point of integers, likewise; None where 0 stands for 0.
        table: entries that indices stand for, [entries]; or a table per block, [blocks of each axis, entries, 1].
        mask: of a sparse tensor, nonzero where it holds anything but zero.
        turned: whether a matrix is stored [in, out].
        bits: of a stored number.
        block: numbers of a row that share a scale, where the last ones may be fewer; 0 where blocks are alike.
    """

    name: str
    levels: Array
    scale: Array | None = None
    zero: Array | None = None
    table: Array | None = None
    mask: Array | None = None
    turned: bool = False
    bits: int = 32
    block: int = 0

    @property
    def value(self) -> Array:
        """Decompressed, fp32, [out, in]."""
        found = self.expanded
        return found.swapaxes(-1, -2) if self.turned and found.ndim > 1 else found

    @property
    def expanded(self) -> Array:
        """Decompressed, fp32, as it is stored: maybe [in, out]."""
        if self.table is not None:
            chosen = self.levels[..., None].astype(np.intp)
            found = np.take_along_axis(self._entries(self.table), chosen, axis=-1)[..., 0]
        else:
            found = self.levels.astype(np.float32)
        if self.zero is not None:
            found = found - self._per_element(self.zero)
        if self.scale is not None:
            found = found * self._per_element(self.scale)
        return np.asarray(found if self.mask is None else np.where(self.mask, found, np.float32(0)))

    def allowed(self, reach: Callable[[Array], Array] | None = None, within: float | None = None) -> Allowed:
        """Return how far integers may lie from their source: see `measure.structure.uniform`.

        Args:
            reach: source → what half the levels have to cover; the largest magnitude that shares a scale by default.
            within: steps that any element may be off; None for the nearest level.
        """
        assert self.scale is not None
        return uniform(self._per_element(self.scale), self.levels, self.bits, reach or self.covered, within)

    def covered(self, source: Array) -> Array:
        """Return the largest magnitude that shares a scale with each element of a source, to be broadcast to it."""
        assert self.scale is not None
        found = np.abs(source)
        for axis, size in enumerate((1,) * (found.ndim - self.scale.ndim) + self.scale.shape):
            if size == 1:
                found = found.max(axis=axis, keepdims=True, initial=0)
            elif size < found.shape[axis]:
                starts = np.arange(size) * self._length(found.shape[axis], size)
                found = np.maximum.reduceat(found, starts, axis)
        return self._per_element(found)

    def _length(self, width: int, count: int) -> int:
        """Numbers in each of `count` blocks of an axis."""
        return self.block or width // count

    def _per_element(self, values: Array) -> Array:
        """Repeat what a block has in common over its elements, so that it broadcasts to `levels`."""
        found = values.astype(np.float32)
        for axis, size in enumerate(found.shape[: self.levels.ndim]):
            width = self.levels.shape[axis]
            if size not in (1, width):
                found = np.repeat(found, self._length(width, size), axis).take(range(width), axis)
        return found

    def _entries(self, table: Array) -> Array:
        """Return the table of each element, fp32 [*levels.shape, entries]."""
        if table.ndim == 1:
            return np.broadcast_to(table.astype(np.float32), (*self.levels.shape, table.size))
        return np.broadcast_to(self._per_element(table[..., 0]), (*self.levels.shape, table.shape[-2]))
