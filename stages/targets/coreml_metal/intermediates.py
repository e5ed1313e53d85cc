"""Run a `model.mlpackage` with the reference executor and keep what every operation computes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError
from stages.coreml import open_program
from stages.coreml.dtypes import Array
from stages.coreml.ir import Named, Operation
from stages.targets.base import Inputs
from stages.targets.coreml_metal import POSITION
from stages.targets.coreml_metal.runtime import PACKAGE


def intermediates(artifact: Path, inputs: Inputs) -> Iterator[tuple[str, str, NDArray[np.float32]]]:
    """Compute one utterance on any host, a language model's from its first token on, all rounded as declared.

    Yields:
        Operation type, tensor name and value of each float tensor, in order of execution.

    Raises:
        ArtifactError: the package is missing, damaged, or fails when it runs.
    """
    if not (artifact / PACKAGE).is_dir():
        raise ArtifactError(f"'{artifact}' has no {PACKAGE}", next_step="run `dvc repro`")
    found: list[tuple[str, str, NDArray[np.float32]]] = []

    def keep(operation: Operation, named: Named, raw: Array, stored: Array) -> None:  # noqa: ARG001
        if stored.dtype.kind == "f":
            found.append((operation.type, named.name, stored.astype(np.float32)))

    program = open_program(artifact / PACKAGE)
    given = {**inputs, POSITION: np.zeros(1, np.int32)}
    asked = {item.name: given[item.name] for item in program.inputs}
    program.run(asked, mode="declared", state=program.make_state(), observe=keep)
    yield from found
