"""Round weights to integers that every CPU multiplies alike.

AVX2 hosts without VNNI multiply uint8 activations by int8 weights in pairs of neighbours that are added in 16 bits
(`saturation`): full-range weights overflow there, and two thirds of a student's answers changed. uint8 weights take
another kernel, exact and 1.3 to 1.5 times slower. So weights are int8, with a scale just long enough that no pair can
overflow whatever the activations are: 255 * (a + b) stays within 16 bits where a + b of one sign is at most 128. On
trained weights that costs 0.3 bits where seven-bit weights would cost one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.core.packing import pack, unpack

Floats = NDArray[np.float32]
LEVELS = 127
LOWEST, HIGHEST = -8, 7
"""Levels of 4 bits."""
BLOCK = 32
"""Neighbours in a row that share a scale at 4 bits."""


def symmetric(values: Floats, axis: int | None) -> tuple[NDArray[np.int8], Floats]:
    """Round to int8 by the largest magnitude along an axis, or of all.

    Returns:
        Levels, and the scale as fp32, with `axis` kept as 1.
    """
    return _rounded(values, np.abs(values).max(axis=axis, keepdims=axis is not None, initial=0))


def pairwise(weight: Floats, per_channel: bool) -> tuple[NDArray[np.int8], Floats]:
    """Round a factor [in, out] so that no two neighbours of a column overflow.

    Returns:
        Levels, and the scale as fp32: [out] per channel, else a scalar.
    """
    return _rounded(weight, pair_reach(weight, per_channel))


def pair_reach(weight: Floats, per_channel: bool) -> Floats:
    """Return what has to fit into 127 levels: of each column of [in, out], as [out], or of all, a scalar.

    Rounding moves two neighbours by one level at most, hence 127 and not 128 for their sum.
    """
    even = np.pad(weight, ((0, len(weight) % 2), (0, 0)))
    first, second = even[0::2], even[1::2]
    up = np.maximum(first, 0) + np.maximum(second, 0)
    down = np.maximum(-first, 0) + np.maximum(-second, 0)
    return np.asarray(np.maximum(up, down).max(axis=0 if per_channel else None, initial=0), np.float32)


def blocks(values: Floats, *, halves: bool = False) -> tuple[NDArray[np.int8], Floats]:
    """Round a matrix to 4 bits, -8 to 7, with a scale for every `BLOCK` elements of a row.

    The largest magnitude of a block becomes -8, whatever its sign: one level more than with 7.

    Args:
        values: fp32 [rows, columns].
        halves: whether scales are to have 16 bits (see `halved`).

    Returns:
        Levels of the matrix' shape, and the scale as fp32 [rows, blocks], some of it negative.
    """
    rows, width = values.shape
    padded = np.pad(values, ((0, 0), (0, -width % BLOCK))).reshape(rows, -1, BLOCK)
    largest = np.take_along_axis(padded, np.abs(padded).argmax(axis=2, keepdims=True), axis=2)
    scale = np.where(largest == 0, 1, largest / -8).astype(np.float32)
    scale = halved(scale) if halves else scale
    levels = np.clip(np.rint(padded / scale), LOWEST, HIGHEST).astype(np.int8)
    return levels.reshape(rows, -1)[:, :width], scale[..., 0]


def halved(scale: Floats) -> Floats:
    """Lengthen scales to the next of 16 bits, being a fifth of a matrix of 4; none, where one would lose digits."""
    with np.errstate(over="ignore"):
        half = scale.astype(np.float16)
        longer = np.nextafter(half, np.copysign(np.float16(np.inf), half))
    half = np.where(np.abs(half) < np.abs(scale), longer, half)
    usual = np.isfinite(half) & (np.abs(half) >= np.finfo(np.float16).tiny)
    return half.astype(np.float32) if usual.all() else scale


def stored_scale(scale: Floats) -> Floats | NDArray[np.float16]:
    """Return scales as fp16 where that is all they are."""
    with np.errstate(over="ignore"):
        half = scale.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), scale) else scale


def per_element(scale: Floats, width: int) -> Floats:
    """Repeat a scale per block over the elements of each row."""
    return np.repeat(scale, BLOCK, axis=1)[:, :width]


def packed(levels: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Store levels as ONNX Runtime reads them, from 0 on: [rows, whole blocks / 2]."""
    whole = np.pad(levels, ((0, 0), (0, -levels.shape[1] % BLOCK)))
    return pack(whole + 8, 4).reshape(len(levels), -1)


def unpacked(stored: NDArray[np.uint8], width: int) -> NDArray[np.int8]:
    """Undo `packed`."""
    levels = unpack(stored.reshape(-1), 2 * stored.size, 4, signed=False).reshape(len(stored), -1)
    return levels[:, :width].astype(np.int8) - np.int8(8)


def centred(stored: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Levels of 8 bits in blocks [rows, blocks, 32], as `MatMulNBits` has them, about 0: [rows, columns]."""
    return (stored ^ np.uint8(128)).view(np.int8).reshape(len(stored), -1)


def _rounded(values: Floats, reach: Floats) -> tuple[NDArray[np.int8], Floats]:
    # What is all zeros has no range; any positive scale represents it exactly.
    scale = np.asarray(np.where(reach > 0, reach, 1) / LEVELS, np.float32)
    return np.clip(np.rint(values / scale), -LEVELS, LEVELS).astype(np.int8), scale
