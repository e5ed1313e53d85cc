"""Read the weights of an ONNX artifact back as fp32, whatever they are stored as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.artifact import read_json
from stages.core.errors import ArtifactError
from stages.measure import rounding
from stages.targets.base import QUANTIZATION
from stages.targets.onnx_cpu import graph, restored, stored
from stages.targets.onnx_cpu.integers import pair_reach
from stages.targets.onnx_cpu.storage import turned


def weights(artifact: Path) -> dict[str, NDArray[np.float32]]:
    """List every stored weight of two dimensions or more and 1,024 elements or more, dequantised.

    Returns:
        Initialiser → fp32; the second factor of a matrix product is turned to [out, in], as torch has it.

    Raises:
        ArtifactError: the model cannot be read, or an integer weight has no scale.
    """
    from onnx import numpy_helper

    model = graph.load(artifact / graph.MODEL)
    try:
        if of_source(artifact):
            model = restored.restored(model)
        return _read(model, {item.name: numpy_helper.to_array(item) for item in model.graph.initializer})
    except (IndexError, TypeError, ValueError) as error:
        raise ArtifactError(f"cannot read weights of '{artifact}': {error}", next_step="run `dvc repro`") from error


def of_source(artifact: Path) -> bool:
    """Whether an artifact's weights are those of the teacher's file."""
    path = artifact / QUANTIZATION
    return path.is_file() and read_json(path)["asked"]["kind"] == "source"


def reach(value: NDArray[np.float32], granularity: str) -> NDArray[np.float32]:
    """Return what each scale of a weight has to cover: the largest sum of two neighbours, which tables need not."""
    if granularity == "block_32":
        return rounding.reach(value, granularity)
    pairs = pair_reach(value.T, per_channel=granularity == "channel")
    return np.asarray(pairs.reshape(-1, 1))


def _read(model: Any, arrays: dict[str, Any]) -> dict[str, NDArray[np.float32]]:
    sideways, rotations = turned(model), graph.rotations(model)
    found = {weight.name: weight.value for weight, _ in stored.weights(model, arrays, smallest=1024)}
    for name, value in arrays.items():
        if value.ndim > 1 and value.size >= 1024 and value.dtype.kind == "f" and name not in rotations:
            wide = np.asarray(value, np.float32)
            found[name] = wide.swapaxes(-1, -2) if name in sideways else wide
    return {name: found[name] for name in arrays if name in found}
