"""Run what a converted program does with token ids alone: the lookup of their vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError
from stages.coreml import open_program
from stages.coreml.ir import Operation
from stages.targets.base import read_signature
from stages.targets.coreml_metal import POSITION
from stages.targets.coreml_metal.runtime import PACKAGE
from stages.tasks.base import IDS


def looked_up(converted: Path, ids: NDArray[np.int32]) -> NDArray[np.float32]:
    """Look up ids with the reference executor.

    Raises:
        ArtifactError: ids are read by anything but one lookup, or that fails.
    """
    program, length = open_program(converted / PACKAGE), read_signature(converted).sequence_lengths[-1]
    # Their number is no secret of theirs: the length is asked of them.
    readers = [one for one in program.function.block.operations if _reads_ids(one) and one.type != "shape"]
    if [(one.type, one.inputs.get("indices")) for one in readers] != [("gather", (IDS,))]:
        ops = ", ".join(one.type for one in readers) or "nothing"
        raise ArtifactError(f"'{IDS}' of '{converted}' is read by {ops}", expected="one gather")
    front = program.until(readers[0].output)
    ones = {item.name: np.ones(1 if item.name == POSITION else (1, length), np.int32) for item in program.inputs}
    rows = [
        front.run(ones | {IDS: chunk}, state=front.make_state())[readers[0].output].reshape(length, -1)
        for chunk in np.pad(ids, (0, -len(ids) % length)).reshape(-1, 1, length)
    ]
    return np.concatenate(rows)[: len(ids)].astype(np.float32)


def _reads_ids(operation: Operation) -> bool:
    return any(argument == IDS for arguments in operation.inputs.values() for argument in arguments)
