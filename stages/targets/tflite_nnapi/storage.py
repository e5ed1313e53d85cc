"""How a TFLite tensor stores its numbers: types, and scales per tensor, channel or block."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core import packing

DTYPES = {
    "BOOL": np.bool_,
    "FLOAT16": np.float16,
    "FLOAT32": np.float32,
    "INT4": np.int8,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
}
"""Type as in the schema → type that its numbers are unpacked to."""
FLOATS = {"FLOAT16", "FLOAT32"}


def bits(dtype: str) -> int:
    """Return the bits of one stored number."""
    return 4 if dtype == "INT4" else 8 * np.dtype(DTYPES[dtype]).itemsize


def unpack(dtype: str, shape: tuple[int, ...], data: Any) -> NDArray[Any]:
    """Read a buffer as numbers.

    Args:
        dtype: as in the schema.
        shape: of the tensor.
        data: uint8, as stored.

    Raises:
        KeyError: a type that no precision of ours has.
        ValueError: the bytes do not fill the shape.
    """
    content = np.asarray(data, np.uint8)
    if content.size != -(-prod(shape) * bits(dtype) // 8):
        raise ValueError(f"{content.size} bytes for {prod(shape)} numbers of {bits(dtype)} bits")
    if dtype != "INT4":
        return np.frombuffer(content.tobytes(), DTYPES[dtype]).reshape(shape).copy()
    return packing.unpack(content, prod(shape), 4, signed=True).reshape(shape)


def pack(dtype: str, levels: NDArray[Any]) -> NDArray[np.uint8]:
    """Write numbers as a buffer: the opposite of `unpack`."""
    if dtype == "INT4":
        return packing.pack(levels, 4)
    return np.frombuffer(np.ascontiguousarray(levels).tobytes(), np.uint8)


def constants(model: Any, graph: Any) -> Iterator[Any]:
    """Yield the stored tensors that operators of a subgraph read: not the scales of blocks, which belong to one."""
    for index in sorted({int(index) for operator in graph.operators for index in operator.inputs if index >= 0}):
        data = model.buffers[graph.tensors[index].buffer].data
        if data is not None and len(data):
            yield graph.tensors[index]


def shape_of(tensor: Any) -> tuple[int, ...]:
    """Return a tensor's shape; a scalar may have none in the file."""
    return () if tensor.shape is None else tuple(int(size) for size in tensor.shape)


def scales_of(tensor: Any) -> int | None:
    """Return the index of the tensor that holds the scales of another's blocks; None where it has none."""
    from ai_edge_litert import schema_py_generated as schema

    quantization = tensor.quantization
    if quantization is None or quantization.detailsType != schema.QuantizationDetails.BlockwiseQuantization:
        return None
    return int(quantization.details.scales)


def block_of(tensor: Any) -> int:
    """Return how many neighbours share a scale of their own; 0 where no blocks do."""
    return 0 if scales_of(tensor) is None else int(tensor.quantization.details.blockSize)


def block_scales(model: Any, graph: Any, tensor: Any) -> Any | None:
    """Return the buffer of a tensor's block scales, fp16 [channels, blocks]; None where it has none."""
    index = scales_of(tensor)
    return None if index is None else model.buffers[graph.tensors[index].buffer]


def points(tensor: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Return scales and zero points that stand beside a tensor, equally many; None for one without."""
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None or len(quantization.scale) == 0:
        return None
    scale = np.asarray(quantization.scale, np.float32)
    zero = [0] if quantization.zeroPoint is None else quantization.zeroPoint
    return scale, np.broadcast_to(np.asarray(zero, np.float32), scale.shape)


def grid(model: Any, graph: Any, tensor: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Return scales and zero points of a constant, on each of its axes 1, as many as it has, or one for each block.

    Raises:
        ValueError: scales that do not tile the tensor.
    """
    shape = shape_of(tensor)
    blocks = block_scales(model, graph, tensor)
    if blocks is not None:
        size = block_of(tensor)
        if shape[-1] % size:
            raise ValueError(f"blocks of {size} over {list(shape)}")
        scale = unpack("FLOAT16", (*shape[:-1], shape[-1] // size), blocks.data).astype(np.float32)
        return scale, np.zeros_like(scale)
    found = points(tensor)
    if found is None:
        return None
    channels = [1] * len(shape)
    if found[0].size > 1:
        channels[tensor.quantization.quantizedDimension] = shape[tensor.quantization.quantizedDimension]
    return found[0].reshape(channels), found[1].reshape(channels)
