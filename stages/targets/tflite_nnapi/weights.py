"""Read the weights of a TFLite artifact back as fp32, whatever they are stored as."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError
from stages.measure.rounding import reach
from stages.targets.tflite_nnapi import flatbuffer, storage, stored

__all__ = ["reach", "weights"]

TYPES = storage.FLOATS | {"INT4", "INT8", "INT16", "UINT8"}


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
    found: dict[str, NDArray[np.float32]] = {}
    seen = set()
    for graph, tensor, dtype in stored.weights(model):
        shape, name = storage.shape_of(tensor), tensor.name.decode()
        if len(shape) < 2 or prod(shape) < 1024 or tensor.buffer in seen:
            continue
        if dtype not in TYPES:
            raise ArtifactError(f"weight '{name}' is stored as {dtype}", expected=f"one of {sorted(TYPES)}")
        seen.add(tensor.buffer)
        found[f"{name}@{tensor.buffer}"] = stored.read(model, graph, tensor, dtype).value
    return found
