"""Convolution (MIL: `conv.py`): windows as a view, then one matrix product per group."""

# mypy: no-warn-return-any
# (arithmetic on arrays of any type is Any to mypy)
from __future__ import annotations

import math

import numpy as np

from stages.coreml.errors import Mismatch, UnsupportedOp
from stages.coreml.ops._limits import allocate
from stages.coreml.registry import Ints, Tensor, op


def _padding(
    pad_type: str, pad: Ints | None, shape: tuple[int, ...], reach: list[int], strides: Ints
) -> list[tuple[int, int]]:
    if pad_type == "valid":
        return [(0, 0)] * len(shape)
    if pad_type == "custom":
        if pad is None or len(pad) != 2 * len(shape) or min(pad) < 0:
            raise Mismatch(f"padding {pad} for {len(shape)} spatial axes")
        return [(pad[2 * i], pad[2 * i + 1]) for i in range(len(shape))]
    if pad_type not in ("same", "same_lower"):
        raise UnsupportedOp(f"pad_type '{pad_type}'", expected="valid, same, same_lower or custom")
    pairs = []
    for size, window, stride in zip(shape, reach, strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + window - size, 0)
        small, large = total // 2, total - total // 2
        pairs.append((small, large) if pad_type == "same" else (large, small))
    return pairs


@op("conv", arithmetic="accumulates", matching=("weight", "bias"))
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation of x [n, in, *space] with weight [out, in / groups, *kernel]."""
    rank = x.ndim - 2
    steps, spread = strides or (1,) * rank, dilations or (1,) * rank
    if weight.ndim != x.ndim or len(steps) != rank or len(spread) != rank or min(*steps, *spread, groups) < 1:
        raise Mismatch(f"conv of {x.shape} with weight {weight.shape}, strides {strides}, dilations {dilations}")
    if x.shape[1] != weight.shape[1] * groups or weight.shape[0] % groups:
        raise Mismatch(f"conv of {x.shape} with weight {weight.shape} in {groups} groups")
    if groups == 1 and set(weight.shape[2:]) == set(steps) == {1} and pad_type == "valid":
        # A linear layer over channels that come first: one product, where windows would copy x twice.
        y = np.matmul(weight.reshape(weight.shape[:2]), x.reshape(*x.shape[:2], -1))
        y = y.reshape(x.shape[0], -1, *x.shape[2:])
        return y if bias is None else np.add(y, bias.reshape(-1, *(1,) * rank), out=y)
    reach = [(size - 1) * gap + 1 for size, gap in zip(weight.shape[2:], spread, strict=True)]
    widths = _padding(pad_type, pad, x.shape[2:], reach, steps)
    allocate((*x.shape[:2], *(size + sum(pair) for size, pair in zip(x.shape[2:], widths, strict=True))))
    padded = np.pad(x, [(0, 0), (0, 0), *widths])
    if any(size < window for size, window in zip(padded.shape[2:], reach, strict=True)):
        raise Mismatch(f"conv of {x.shape} with a kernel of {weight.shape[2:]}, which is larger")
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=tuple(range(2, x.ndim)))
    windows = windows[(slice(None),) * 2 + tuple(slice(None, None, step) for step in steps)]
    windows = windows[(slice(None),) * x.ndim + tuple(slice(None, None, gap) for gap in spread)]
    y = _products(windows, weight, groups)
    return y if bias is None else y + bias.reshape(-1, *(1,) * rank)


def _products(windows: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Multiply windows [n, in, *out space, *kernel] with weight; returns [n, out, *out space]."""
    rank = weight.ndim - 2
    batch, space = windows.shape[0], windows.shape[2 : 2 + rank]
    allocate((batch, *space, math.prod(weight.shape[1:]) * groups))
    order = (0, *range(2, 2 + rank), 1, *range(2 + rank, 2 + 2 * rank))
    rows = windows.transpose(order).reshape(batch * math.prod(space), groups, -1).transpose(1, 0, 2)
    kernels = weight.reshape(groups, weight.shape[0] // groups, -1).transpose(0, 2, 1)
    y = np.matmul(rows, kernels).transpose(1, 0, 2).reshape(batch, *space, weight.shape[0])
    return np.moveaxis(y, -1, 1)
