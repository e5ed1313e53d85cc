"""Read the weights of a TFLite artifact back as fp32, whatever they are stored as."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError
from stages.measure.rounding import reach
from stages.targets.tflite_nnapi import flatbuffer, storage

__all__ = ["reach", "weights"]

INTEGERS = {"INT4", "INT8", "INT16", "UINT8"}


def weights(artifact: Path) -> dict[str, NDArray[np.float32]]:
    """List every stored weight of two dimensions or more and 1,024 elements or more, dequantised.

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
        for tensor in storage.constants(model, graph):
            shape = storage.shape_of(tensor)
            if len(shape) < 2 or prod(shape) < 1024 or tensor.buffer in seen:
                continue
            value = _value(model, graph, tensor, types[tensor.type])
            if value is not None:
                seen.add(tensor.buffer)
                found[f"{tensor.name.decode()}@{tensor.buffer}"] = value
    return found


def _value(model: Any, graph: Any, tensor: Any, dtype: str) -> NDArray[np.float32] | None:
    name, shape, data = tensor.name.decode(), storage.shape_of(tensor), model.buffers[tensor.buffer].data
    grid = storage.grid(model, graph, tensor)
    if dtype not in storage.FLOATS and grid is None:
        return None  # indices, not a weight
    if dtype not in storage.FLOATS | INTEGERS:
        raise ArtifactError(f"weight '{name}' is stored as {dtype}", expected=f"one of {[*storage.FLOATS, *INTEGERS]}")
    if len(data) != -(-prod(shape) * storage.bits(dtype) // 8):
        raise ArtifactError(f"weight '{name}' {list(shape)} has {len(data)} bytes", next_step="run `dvc repro`")
    stored = storage.unpack(dtype, shape, data)
    return stored.astype(np.float32) if grid is None or dtype in storage.FLOATS else grid.expand(stored)
