"""How far rounding to a grid of its own moves a weight, foretold from the weight alone.

A pretrained matrix may hold one element 175 times as large as the others' deviation: 127 levels that reach it leave
little of the rest, and a cosine of 0.93 is all that a sound int8 tensor can have. What is asked of an artifact follows
from this: no worse than its own grid explains.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

ELEMENTS = 1 << 18
"""Elements looked at together: temporaries stay in a core's cache, whatever the size of a table."""
BLOCK = 32
BINS = 1 << 16
SWEEPS = 100
"""Of Lloyd's algorithm, at most: from a start near the optimum it moves little."""


def by_rows(value: NDArray[Any]) -> Iterator[tuple[int, int]]:
    """Yield the bounds of slices of a matrix that are small enough to compute with."""
    step = max(1, ELEMENTS // max(1, value.shape[1]))
    for start in range(0, len(value), step):
        yield start, min(start + step, len(value))


def reach(value: Matrix, granularity: str) -> NDArray[np.float32]:
    """Return the largest magnitude that each scale has to cover.

    Args:
        value: [out, in].
        granularity: `tensor`, `channel` (an output channel, or a table's row) or `block_32`, along the last axis.

    Returns:
        To be broadcast to `value`: [1, 1], [out, 1] or [out, in].
    """
    if granularity == "block_32":
        rows, width = value.shape
        padded = np.pad(np.abs(value), ((0, 0), (0, -width % BLOCK))).reshape(rows, -1, BLOCK)
        return np.asarray(np.repeat(padded.max(axis=2), BLOCK, axis=1)[:, :width])
    largest = np.maximum(value.max(axis=1, keepdims=True, initial=0), -value.min(axis=1, keepdims=True, initial=0))
    return np.asarray(largest if granularity == "channel" else largest.max(keepdims=True, initial=0))


def uniform_error(value: Matrix, longest: NDArray[np.float32], levels: int) -> float:
    """Norm of the error of rounding to the nearest of evenly spaced levels, 0 among them.

    Elements below half a step are lost whole, the largest is met, the others are off by step²/12 on average. What the
    very levels would give is taken where it is more; less, as of weights that were trained on a grid, is chance or a
    merit.

    Args:
        value: [out, in].
        longest: what the outermost level stands for, to be broadcast to `value`: see `reach`.
        levels: on one side of 0.
    """
    exact = average = 0.0
    covered = np.broadcast_to(longest, value.shape)
    for start, stop in by_rows(value):
        part, size = value[start:stop], np.abs(value[start:stop])
        step = np.maximum(covered[start:stop] / np.float32(levels), np.finfo(np.float32).tiny)
        error = np.square(part - np.rint(part / step) * step)
        exact += float(error.sum(dtype=np.float64))
        usual = np.where(size < step / 2, np.square(part), np.square(step) / 12)
        usual[size >= covered[start:stop]] = 0
        average += float(usual.sum(dtype=np.float64))
    return float(np.sqrt(max(exact, average)))


def palette_error(value: Matrix, entries: int, sparsity: float = 0.0) -> float:
    """Norm of the error of replacing each element by the nearest of so many values, chosen by k-means.

    Computed on a histogram: Lloyd's algorithm from entries spread by the cube root of the density, the best spacing of
    many (Panter & Dite 1951), with entries that stand for nothing moved to where most is lost. It ends a little above
    the optimum at most.

    Args:
        value: [rows, columns].
        entries: of the table.
        sparsity: share of the elements, smallest magnitudes first, that become 0 instead.
    """
    counts, centres = _histogram(value)
    dropped = np.zeros(len(centres), np.bool_)
    if sparsity:
        order = np.argsort(np.abs(centres), kind="stable")
        dropped[order] = np.cumsum(counts[order]) - counts[order] < sparsity * value.size
    smallest = np.abs(centres[dropped]).max(initial=-1)
    table = _table(counts[~dropped], centres[~dropped], entries)
    nearest = table[np.searchsorted((table[1:] + table[:-1]) / 2, centres)]
    nearest[np.abs(centres) <= smallest] = 0
    return float(np.sqrt((counts * (centres - nearest) ** 2).sum()))


def _histogram(value: Matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low, high = float(value.min()), float(value.max())
    width = (high - low) / (BINS - 1) or 1.0
    counts = np.zeros(BINS, np.int64)
    for start, stop in by_rows(value):
        numbers = np.rint((value[start:stop] - np.float32(low)) * np.float32(1 / width)).astype(np.int64)
        counts += np.bincount(np.clip(numbers, 0, BINS - 1).reshape(-1), minlength=BINS)
    used = np.flatnonzero(counts)
    return counts[used].astype(np.float64), np.asarray(low + used * width, np.float64)


def _table(counts: NDArray[np.float64], centres: NDArray[np.float64], entries: int) -> NDArray[np.float64]:
    """Choose the entries of a table, ascending; fewer where there are fewer values."""
    if len(centres) <= entries:
        return centres if len(centres) else np.zeros(1)
    # Prefix sums make a sweep as cheap as the table is short.
    mass, moment, second = (np.append(0, np.cumsum(counts * centres**power)) for power in (0, 1, 2))
    gaps = np.gradient(centres)
    density = np.cumsum(np.cbrt(counts * gaps**2))
    table = centres[np.searchsorted(density, (np.arange(entries) + 0.5) / entries * density[-1])]
    for _ in range(SWEEPS):
        ends = np.concatenate([[0], np.searchsorted(centres, (table[1:] + table[:-1]) / 2), [len(centres)]])
        weight, sums = np.diff(mass[ends]), np.diff(moment[ends])
        used = weight > 0
        means = sums[used] / weight[used]
        lost = np.maximum(np.diff(second[ends])[used] - means * sums[used], 0)
        split = np.argsort(-lost, kind="stable")[: entries - len(means)]
        moved = np.sort(np.append(means, means[split] + np.sqrt(lost[split] / weight[used][split])))
        if np.array_equal(moved, table):
            break
        table = moved
    return np.asarray(table)
