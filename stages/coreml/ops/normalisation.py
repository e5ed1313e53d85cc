"""Normalisation (MIL: `normalization.py`)."""

# mypy: no-warn-return-any
# (arithmetic on arrays of any type is Any to mypy)
from __future__ import annotations

import numpy as np

from stages.coreml.errors import Mismatch, UnsupportedOp
from stages.coreml.ops._limits import allocate
from stages.coreml.ops._limits import axes as checked_axes
from stages.coreml.registry import Ints, Tensor, op


@op("layer_norm", matching=("gamma", "beta"))
def layer_norm(
    x: Tensor,
    axes: Ints | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta over the given axes (all when absent)."""
    over = checked_axes(axes, x.ndim) if axes is not None else tuple(range(x.ndim))
    y = x - x.mean(over, keepdims=True)
    y /= np.sqrt(np.square(y).mean(over, keepdims=True) + x.dtype.type(epsilon))
    shape = tuple(size if index in over else 1 for index, size in enumerate(x.shape))
    if gamma is not None:
        y *= gamma.reshape(shape)
    if beta is not None:
        y += beta.reshape(shape)
    return y


def _per_channel(x: Tensor, values: Tensor) -> Tensor:
    return values.reshape((1, -1) + (1,) * (x.ndim - 2))


def _affine(y: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
    if gamma is not None:
        y = y * _per_channel(y, gamma)
    return y if beta is None else y + _per_channel(y, beta)


@op("batch_norm", matching=("mean", "variance", "gamma", "beta"))
def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """Normalise with stored statistics per channel (axis 1)."""
    spread = np.sqrt(variance + x.dtype.type(epsilon))
    return _affine((x - _per_channel(x, mean)) / _per_channel(x, spread), gamma, beta)


@op("instance_norm", matching=("gamma", "beta"))
def instance_norm(x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5) -> Tensor:
    """Normalise each channel of each sample over its spatial axes."""
    return _affine(layer_norm(x, tuple(range(2, x.ndim)), epsilon=epsilon), gamma, beta)


@op("l2_norm")
def l2_norm(x: Tensor, epsilon: float = 1e-6) -> Tensor:
    """X / sqrt(sum of squares over the last three axes + epsilon)."""
    return x / np.sqrt(np.square(x).sum((-3, -2, -1), keepdims=True) + x.dtype.type(epsilon))


@op("local_response_norm")
def local_response_norm(x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """X / (k + alpha * mean square of `size` neighbouring channels) ** beta; beyond the edges are zeros.

    Raises:
        UnsupportedOp: a rank other than 4. Of rank 3, Apple's smoke test expects that no channel sees another.
    """
    if x.ndim != 4:
        raise UnsupportedOp(f"an input of rank {x.ndim}", expected="rank 4")
    if size < 1:
        raise Mismatch(f"{size} channels", expected="at least 1")
    allocate((x.shape[0], x.shape[1] + size - 1, *x.shape[2:]))
    beside = [(0, 0), (size // 2, (size - 1) // 2), (0, 0), (0, 0)]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(np.square(x), beside), size, axis=1)
    scalar = x.dtype.type
    return x / (scalar(k) + scalar(alpha) * windows.mean(-1)) ** scalar(beta)
