"""Numbers of fewer than 8 bits, stored side by side: the first in the lowest bits, elements crossing borders of bytes.

ONNX Runtime, TFLite and Core ML all store them so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

GROUP = 8
"""Numbers that fill as many whole bytes as one of them has bits."""


def pack(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Store integers, of which the lowest `bits` count; zeros fill the last byte.

    Returns:
        uint8 [ceil(size * bits / 8)].
    """
    flat = np.pad(values.reshape(-1), (0, -values.size % GROUP)).astype(np.uint8).reshape(-1, GROUP)
    words = np.zeros(len(flat), "<u8")
    for place in range(GROUP):
        words |= (flat[:, place] & np.uint8(2**bits - 1)).astype(np.uint64) << np.uint64(bits * place)
    return words.view(np.uint8).reshape(-1, 8)[:, :bits].reshape(-1)[: -(-values.size * bits // 8)]


def unpack(packed: NDArray[np.uint8], count: int, bits: int, *, signed: bool) -> NDArray[Any]:
    """Read `count` integers back.

    Args:
        packed: uint8, ceil(count * bits / 8) of them or more.
        count: numbers.
        bits: of each, 1 to 8.
        signed: whether they are in two's complement.

    Returns:
        int8 or uint8 [count].
    """
    groups = -(-count // GROUP)
    stored = packed[: groups * bits]
    words = np.zeros((groups, 8), np.uint8)
    words[:, :bits] = np.pad(stored, (0, groups * bits - stored.size)).reshape(groups, bits)
    flat = words.view("<u8")[:, 0]
    parts = [(flat >> np.uint64(bits * place)).astype(np.uint8) & np.uint8(2**bits - 1) for place in range(GROUP)]
    values = np.stack(parts, axis=1).reshape(-1)[:count]
    sign = np.uint8(1 << (bits - 1))
    return ((values ^ sign) - sign).view(np.int8) if signed else values
