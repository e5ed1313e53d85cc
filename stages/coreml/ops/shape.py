"""Changing shape without changing values (MIL: `tensor_transformation.py`)."""

from __future__ import annotations

import math

import numpy as np

from stages.coreml.errors import Mismatch
from stages.coreml.ops._limits import axes as checked_axes
from stages.coreml.registry import Ints, Tensor, Tensors, convert, op


def _reshaped(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    try:
        return x.reshape(shape)
    except ValueError as error:
        raise Mismatch(f"{x.shape} does not reshape to {shape}") from error


@op("reshape", arithmetic="moves")
def reshape(x: Tensor, shape: Ints) -> Tensor:
    """New shape; -1 is inferred, 0 copies the input's size at that place, counted from the end, or adds a 1."""
    if 0 not in shape:
        return _reshaped(x, shape)
    own = (1,) * len(shape) + x.shape
    return _reshaped(x, tuple(size or own[index - len(shape)] for index, size in enumerate(shape)))


@op("reshape_like", arithmetic="moves")
def reshape_like(x: Tensor, ref_tensors: Tensors, begins: Tensors, ends: Tensors, end_masks: Tensors) -> Tensor:
    """New shape, joined from slices of other tensors' shapes."""
    if not len(ref_tensors) == len(begins) == len(ends) == len(end_masks):
        raise Mismatch("reshape_like with lists of different lengths")
    shape: tuple[int, ...] = ()
    for reference, begin, end, masked in zip(ref_tensors, begins, ends, end_masks, strict=True):
        shape += reference.shape[convert(int, begin) : None if convert(bool, masked) else convert(int, end)]
    return _reshaped(x, shape)


@op("flatten2d", arithmetic="moves")
def flatten2d(x: Tensor, axis: int = 1) -> Tensor:
    """Join the axes before `axis` and those from it on."""
    split = axis % x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:split]), math.prod(x.shape[split:]))


@op("transpose", arithmetic="moves")
def transpose(x: Tensor, perm: Ints) -> Tensor:
    """Reorder axes."""
    order = checked_axes(perm, x.ndim)
    if len(order) != x.ndim:
        raise Mismatch(f"permutation {perm} of rank {x.ndim}")
    return x.transpose(order)


@op("expand_dims", arithmetic="moves")
def expand_dims(x: Tensor, axes: Ints) -> Tensor:
    """Insert axes of size 1; indices refer to the result."""
    return np.expand_dims(x, checked_axes(axes, x.ndim + len(axes)))


@op("squeeze", arithmetic="moves")
def squeeze(x: Tensor, axes: Ints | None = None) -> Tensor:
    """Remove axes of size 1, all of them when none are named."""
    over = checked_axes(axes, x.ndim) if axes else tuple(i for i, size in enumerate(x.shape) if size == 1)
    if any(x.shape[index] != 1 for index in over):
        raise Mismatch(f"squeeze of axes {axes} of {x.shape}")
    return np.squeeze(x, over)


@op("reverse", arithmetic="moves")
def reverse(x: Tensor, axes: Ints | None = None) -> Tensor:
    """Flip along axes, all of them when none are named."""
    return np.flip(x, None if axes is None else checked_axes(axes, x.ndim))


@op("reverse_sequence", arithmetic="moves")
def reverse_sequence(x: Tensor, lengths: Ints, seq_axis: int = 0, batch_axis: int = 0) -> Tensor:
    """Flip the first `lengths[b]` elements of each batch row."""
    batched = np.moveaxis(x, (batch_axis, seq_axis), (0, 1)).copy()
    if len(lengths) != batched.shape[0] or not all(0 <= length <= batched.shape[1] for length in lengths):
        raise Mismatch(f"lengths {lengths} for {x.shape}")
    for row, length in zip(batched, lengths, strict=True):
        row[:length] = row[:length][::-1].copy()
    return np.moveaxis(batched, (0, 1), (batch_axis, seq_axis))


def _channels_first(x: Tensor, block: int) -> tuple[int, int, int, int]:
    if x.ndim != 4 or block < 1:
        raise Mismatch(f"blocks of {block} in a tensor of shape {x.shape}")
    batch, channels, height, width = x.shape
    return batch, channels, height, width


@op("depth_to_space", arithmetic="moves")
def depth_to_space(x: Tensor, block_size: int) -> Tensor:
    """Move channel blocks into space, block index outermost."""
    n, c, h, w = _channels_first(x, block_size)
    y = _reshaped(x, (n, block_size, block_size, c // block_size**2, h, w)).transpose(0, 3, 4, 1, 5, 2)
    return y.reshape(n, c // block_size**2, h * block_size, w * block_size)


@op("space_to_depth", arithmetic="moves")
def space_to_depth(x: Tensor, block_size: int) -> Tensor:
    """Inverse of `depth_to_space`."""
    n, c, h, w = _channels_first(x, block_size)
    y = _reshaped(x, (n, c, h // block_size, block_size, w // block_size, block_size)).transpose(0, 3, 5, 1, 2, 4)
    return y.reshape(n, c * block_size**2, h // block_size, w // block_size)


@op("pixel_shuffle", arithmetic="moves")
def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """Move channel blocks into space, block index innermost (PyTorch's order)."""
    n, c, h, w = _channels_first(x, upscale_factor)
    y = _reshaped(x, (n, c // upscale_factor**2, upscale_factor, upscale_factor, h, w)).transpose(0, 1, 4, 2, 5, 3)
    return y.reshape(n, c // upscale_factor**2, h * upscale_factor, w * upscale_factor)


@op("pixel_unshuffle", arithmetic="moves")
def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """Inverse of `pixel_shuffle`."""
    n, c, h, w = _channels_first(x, downscale_factor)
    f = int(downscale_factor)
    y = _reshaped(x, (n, c, h // f, f, w // f, f)).transpose(0, 1, 3, 5, 2, 4)
    return y.reshape(n, c * f * f, h // f, w // f)
