"""A saved program to be broken, what it must compute, and how it is edited."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.coreml import proto

Array = npt.NDArray[Any]
MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


@dataclass(frozen=True)
class Subject:
    """A package with what it must compute.

    Attributes:
        package: the unmutated `.mlpackage`.
        runs: inputs of consecutive calls, sharing state where the program has any.
        expected: the reference's output of each call.
        checkpoint: tensors by name; empty where no weights are compared.
        bound: relative error parity allows.
    """

    package: Path
    runs: tuple[Mapping[str, Array], ...]
    expected: tuple[Array, ...]
    checkpoint: Mapping[str, Array]
    bound: float


def relative_error(value: Array, expected: Array) -> float:
    """Largest difference over the expected values' largest magnitude; NaN where either has one."""
    difference = np.abs(value.astype(np.float64) - expected.astype(np.float64))
    largest = float(np.abs(expected).max(initial=0))
    return float(difference.max(initial=0)) / (largest or 1.0)


class Edit:
    """A package being mutated."""

    def __init__(self, package: Path) -> None:
        self.model = proto.read_model(package / MODEL)
        weights = package / WEIGHTS
        self.weights = bytearray(weights.read_bytes() if weights.is_file() else b"")
        function = self.model.mlProgram.functions["main"]
        self.function = function
        self.block = function.block_specializations[function.opset]

    def first(self, kind: str, nth: int = 0) -> Any:
        """Return an operation by type."""
        return [operation for operation in self.block.operations if operation.type == kind][nth]

    def reading(self, kind: str, weight: str) -> Any:
        """Return the operation of a type that reads a constant whose name contains `weight`."""
        for operation in self.block.operations:
            if operation.type == kind:
                names = [a.name for argument in operation.inputs.values() for a in argument.arguments]
                if any(weight in name for name in names):
                    return operation
        raise LookupError(f"no {kind} reads {weight}")

    def made(self, name: str) -> Any:
        """Return the operation that makes a value whose name contains `name`."""
        return next(o for o in self.block.operations if any(name in output.name for output in o.outputs))

    def constant(self, operation: Any, parameter: str) -> Any:
        """Return the immediate tensor of an operation's constant argument."""
        name = operation.inputs[parameter].arguments[0].name
        return self.made(name).attributes["val"].immediateValue.tensor

    def record(self, name: str, parameter: str = "") -> tuple[int, int, int]:
        """Return (offset of the record, offset of the data, bytes) of a constant's blob."""
        operation = self.made(name)
        if parameter:
            argument = operation.inputs[parameter].arguments[0]
            source = argument.value if argument.WhichOneof("binding") == "value" else None
            if source is None:
                source = self.made(argument.name).attributes["val"]
        else:
            source = operation.attributes["val"]
        offset = source.blobFileValue.offset
        size, start = struct.unpack_from("<QQ", self.weights, offset + 8)
        return offset, start, size

    def save(self, package: Path) -> None:
        """Write the mutated package."""
        (package / MODEL).write_bytes(self.model.SerializeToString(deterministic=True))
        if self.weights:
            (package / WEIGHTS).write_bytes(bytes(self.weights))


def swap_arguments(edit: Edit, operation: Any, one: str, other: str) -> None:
    """Exchange two arguments."""
    del edit
    kept = type(operation.inputs[one]).FromString(operation.inputs[one].SerializeToString())
    operation.inputs[one].CopyFrom(operation.inputs[other])
    operation.inputs[other].CopyFrom(kept)


def write(edit: Edit, start: int, data: bytes) -> None:
    """Overwrite bytes of the weight file."""
    edit.weights[start : start + len(data)] = data


def flip(edit: Edit, position: int, bit: int) -> None:
    """Flip one bit of the weight file."""
    edit.weights[position] ^= 1 << bit
