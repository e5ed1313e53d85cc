"""Find the levels and scales that a weight's numbers were made of, and prove it: what they stand for is it to the bit.

A GGUF file in Q4_0, Q4_1 or Q8_0 keeps 32 neighbours of a row as integers, with a scale of 16 bits and, in Q4_1, a
minimum. Import expands them to fp32; here they are found again in the numbers themselves, so that no stage between has
to carry them, and nothing that changed a weight on its way passes for what the file holds.
Source: ggml-quants.c, `dequantize_row_q4_0`, `_q4_1`, `_q8_0`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.targets.onnx_cpu.integers import BLOCK

Floats = NDArray[np.float32]
KINDS = "Q4_0, Q4_1 or Q8_0"
MIDDLE = {4: 8, 8: 128}
"""Bits → the stored level that stands for 0 where there is no minimum."""


@dataclass(frozen=True)
class Grid:
    """A matrix as integers.

    Attributes:
        bits: 4 or 8.
        levels: uint8 [rows, columns].
        scale: fp16 [rows, blocks], or as much in fp32.
        minimum: fp16 [rows, blocks], what level 0 stands for; None where `MIDDLE` stands for 0.
    """

    bits: int
    levels: NDArray[np.uint8]
    scale: NDArray[np.float16] | Floats
    minimum: NDArray[np.float16] | None

    def expanded(self) -> Floats:
        """What it stands for, fp32 [rows, columns], rounded as llama.cpp rounds it."""
        rows, columns = self.levels.shape
        levels = self.levels.reshape(rows, -1, BLOCK).astype(np.float32)
        if self.minimum is None:
            found = (levels - np.float32(MIDDLE[self.bits])) * self.scale.astype(np.float32)[..., None]
        else:
            found = levels * self.scale.astype(np.float32)[..., None] + self.minimum.astype(np.float32)[..., None]
        return np.asarray(found.reshape(rows, columns), np.float32)


def members(width: int) -> NDArray[np.float32]:
    """Which block each element of a row lies in: fp32 [width, blocks]."""
    return np.repeat(np.eye(width // BLOCK, dtype=np.float32), BLOCK, axis=0)


def identity(source: str, width: int) -> dict[str, NDArray[Any]]:
    """The identity in 8 bits; its zero is level 0, since what is subtracted for any other is rounded."""
    eye = np.eye(width, dtype=np.uint8).reshape(width, -1, BLOCK)
    return {
        f"{source}_identity": eye,
        f"{source}_identity_scale": np.ones(eye.shape[:2], np.float32),
        f"{source}_identity_zero_point": np.zeros(eye.shape[0] * eye.shape[1], np.uint8),
    }


Guess = Callable[[Floats], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Blocks [n, 32] → the scale of each, and what level 0 stands for."""
Levels = tuple[NDArray[np.uint8], NDArray[np.float16], NDArray[np.float16]]
"""Of blocks: levels [n, 32], scale and what level 0 stands for [n]."""
SAMPLE, STEP = 64, 1 << 15
"""Blocks that tell whether the others are worth trying, and blocks that are tried at once."""


def find(matrix: Floats) -> Grid | None:
    """Return the grid of a matrix fp32 [rows, columns], None where its numbers lie on none."""
    rows, columns = matrix.shape
    if columns % BLOCK:
        return None
    blocks = np.ascontiguousarray(matrix).reshape(-1, BLOCK)
    for bits, has_minimum in ((4, False), (4, True), (8, False)):
        guesses = _spans() if has_minimum else _multiples(bits)
        if _fitted(blocks[:SAMPLE], bits, guesses, has_minimum=has_minimum) is None:
            continue
        found = _fitted(blocks, bits, guesses, has_minimum=has_minimum)
        if found is not None:
            levels, scale, minimum = found
            shape = rows, columns // BLOCK
            kept = minimum.reshape(shape) if has_minimum else None
            return Grid(bits, levels.reshape(rows, columns), scale.reshape(shape), kept)
    return None


def _multiples(bits: int) -> list[Guess]:
    """The largest magnitude is so many scales: -8 in llama.cpp's Q4_0, 127 in its Q8_0; then others'."""
    middle = MIDDLE[bits]
    usual = [-8, 7] if bits == 4 else [127, -127, -128, 126, -126]
    rest = sorted({*range(-middle, middle)} - {0, *usual}, key=lambda level: -abs(level))
    return [partial(_of_largest, middle, level) for level in (*usual, *rest)]


def _of_largest(middle: int, level: int, blocks: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1)[:, None], axis=1)[:, 0]
    scale = largest.astype(np.float64) / level
    return scale, -middle * scale


def _spans() -> list[Guess]:
    """Smallest and largest number are two of the sixteen levels: mostly the outermost, and in llama.cpp's order."""
    pairs = sorted(permutations(range(16), 2), key=lambda pair: (pair[0] > pair[1], -abs(pair[0] - pair[1]), pair[0]))
    return [partial(_of_span, low, high) for low, high in pairs]


def _of_span(low: int, high: int, blocks: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    least, most = blocks.min(axis=1).astype(np.float64), blocks.max(axis=1).astype(np.float64)
    scale = (most - least) / (high - low)
    return scale, least - low * scale


def _fitted(blocks: Floats, bits: int, guesses: Sequence[Guess], *, has_minimum: bool) -> Levels | None:
    """Try one guess after another on the blocks that none before it explains; None where some are left."""
    levels = np.empty(blocks.shape, np.uint8)
    scale, lowest = np.empty(len(blocks), np.float16), np.empty(len(blocks), np.float16)
    for start in range(0, len(blocks), STEP):
        left = np.arange(start, min(start + STEP, len(blocks)))
        for guess in guesses:
            part = blocks[left]
            (own, step, zero), fits = _tried(part, bits, *guess(part), has_minimum=has_minimum)
            done = left[fits]
            levels[done], scale[done], lowest[done] = own[fits], step[fits], zero[fits]
            left = left[~fits]
            if not len(left):
                break
        if len(left):
            return None
    return levels, scale, lowest


def _tried(
    blocks: Floats, bits: int, scale: NDArray[np.float64], lowest: NDArray[np.float64], *, has_minimum: bool
) -> tuple[Levels, NDArray[np.bool_]]:
    """Round to a grid, and say which blocks it gives back to the bit."""
    with np.errstate(over="ignore"):  # beyond 16 bits is no scale of a file's, and fits nothing
        step, zero = scale.astype(np.float16), lowest.astype(np.float16)
    wide, highest = step.astype(np.float32)[:, None], 2**bits - 1
    offset = zero.astype(np.float32)[:, None] if has_minimum else np.float32(-MIDDLE[bits]) * wide
    with np.errstate(divide="ignore", invalid="ignore"):
        levels = np.rint((blocks - offset) / wide)
    levels = np.where(wide == 0, 0 if has_minimum else MIDDLE[bits], np.clip(levels, 0, highest))
    grid = Grid(bits, levels.astype(np.uint8), step[:, None], zero[:, None] if has_minimum else None)
    return (grid.levels, step, zero), (grid.expanded() == blocks).all(axis=1)
