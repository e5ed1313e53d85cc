"""Read the weights of a Core ML artifact back as fp32, whatever they are stored as."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError
from stages.coreml import open_program
from stages.coreml.weights import compared_weights
from stages.measure.rounding import reach
from stages.targets.coreml_metal.runtime import PACKAGE

__all__ = ["reach", "weights"]


def weights(artifact: Path) -> dict[str, NDArray[np.float32]]:
    """List every weight of two dimensions or more and 1,024 elements or more, decompressed.

    Returns:
        Constant → fp32, shaped as the program computes with it, which for `linear` is torch's [out, in], without the
        1×1 of a convolution: look-up tables and blocks expanded by the reference executor, on every host.

    Raises:
        ArtifactError: the package is missing, damaged, or uses what the executor has no definition of.
    """
    if not (artifact / PACKAGE).is_dir():
        raise ArtifactError(f"'{artifact}' has no {PACKAGE}", next_step="run `dvc repro`")
    found = compared_weights(open_program(artifact / PACKAGE))
    large = {name: value.astype(np.float32) for name, value in found if value.ndim >= 2 and value.size >= 1024}
    return {name: _matrix(value) for name, value in large.items()}


def _matrix(value: NDArray[np.float32]) -> NDArray[np.float32]:
    return value[:, :, 0, 0] if value.shape[2:] == (1, 1) else value
