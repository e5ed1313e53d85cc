"""Read the weights of a TFLite artifact back as fp32, whatever they are stored as."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError
from stages.targets.tflite_nnapi import flatbuffer

FLOATS = {"FLOAT32": np.float32, "FLOAT16": np.float16}
INTEGERS = {"INT8": np.int8, "UINT8": np.uint8, "INT16": np.int16}


def weights(artifact: Path) -> dict[str, NDArray[np.float32]]:
    """List every stored weight of two dimensions or more and 1,024 elements or more, dequantised.

    Args:
        artifact: output of `quantize`.

    Returns:
        Tensor → fp32, shaped as stored, which for FULLY_CONNECTED is torch's [out, in]. A buffer that signatures
        share is listed once.

    Raises:
        ArtifactError: the file cannot be read, or a weight contradicts itself or is of another type.
    """
    model = flatbuffer.read(artifact / flatbuffer.MODEL)
    try:
        return _read(model)
    except (AttributeError, IndexError, KeyError, ValueError) as error:
        raise ArtifactError(f"cannot read weights of '{artifact}': {error}", next_step="run `dvc repro`") from error


def _read(model: Any) -> dict[str, NDArray[np.float32]]:
    types = flatbuffer.tensor_types()
    found: dict[str, NDArray[np.float32]] = {}
    seen = set()
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            shape = () if tensor.shape is None else tuple(int(size) for size in tensor.shape)
            data = model.buffers[tensor.buffer].data
            if len(shape) < 2 or prod(shape) < 1024 or data is None or tensor.buffer in seen:
                continue
            value = _value(tensor, types[tensor.type], shape, data)
            if value is not None:
                seen.add(tensor.buffer)
                found[f"{tensor.name.decode()}@{tensor.buffer}"] = value
    return found


def _value(tensor: Any, dtype: str, shape: tuple[int, ...], data: Any) -> NDArray[np.float32] | None:
    name, quantization = tensor.name.decode(), tensor.quantization
    scale = np.asarray([] if quantization is None or quantization.scale is None else quantization.scale, np.float32)
    stored = {**FLOATS, **INTEGERS}.get(dtype)
    if dtype not in FLOATS and scale.size == 0:
        return None  # indices, not a weight
    if stored is None:
        raise ArtifactError(f"weight '{name}' is stored as {dtype}", expected=f"one of {[*FLOATS, *INTEGERS]}")
    content = np.asarray(data, np.uint8).tobytes()
    if len(content) != prod(shape) * np.dtype(stored).itemsize:
        raise ArtifactError(f"weight '{name}' {list(shape)} has {len(content)} bytes", next_step="run `dvc repro`")
    value = np.frombuffer(content, stored).reshape(shape).astype(np.float32)
    if dtype in FLOATS:
        return value
    channels = [1] * len(shape)
    if scale.size > 1:
        channels[quantization.quantizedDimension] = shape[quantization.quantizedDimension]
    zero = np.asarray([0] if quantization.zeroPoint is None else quantization.zeroPoint, np.float32)
    return (value - np.broadcast_to(zero, scale.shape).reshape(channels)) * scale.reshape(channels)
