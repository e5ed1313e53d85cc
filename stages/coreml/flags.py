"""Values that fp16 cannot hold, found while a program runs: overflow, underflow and constants below its normal range.

A device may treat each of them in its own way (flush subnormals to zero, saturate); the executor follows IEEE 754.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stages.coreml import dtypes
from stages.coreml.dtypes import Array
from stages.coreml.ir import Named, Operation
from stages.coreml.program import Program
from stages.coreml.registry import OPS
from stages.coreml.values import TensorType

SMALLEST_NORMAL = 2.0**-14
_ROUNDS_TO_ZERO = 2.0**-25
"""Halfway to the smallest subnormal, 2^-24; ties go to even, which is zero."""
_ROUNDS_TO_INFINITY = 65520.0
"""Halfway between the largest finite value, 65504, and the next power of two."""

Kind = Literal["overflow", "underflow", "not_a_number", "subnormal_constant", "infinite_constant"]


@dataclass(frozen=True)
class Flag:
    """One kind of trouble at one output.

    Attributes:
        operation: MIL type of the operation, or of the operation that reads the constant.
        output: name of the tensor.
        kind: what happened.
        count: elements affected, over all runs.
        size: elements seen.
        extreme: the value of largest magnitude affected (before rounding).
    """

    operation: str
    output: str
    kind: Kind
    count: int
    size: int
    extreme: float


class Watch:
    """An observer for `Program.run` that counts what fp16 cannot hold; shared by any number of runs."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, Kind], tuple[int, int, float]] = {}

    def __call__(self, operation: Operation, named: Named, raw: Array, stored: Array) -> None:  # noqa: ARG002
        """Look at one computed tensor; operations that only move values are their sources' business."""
        half = isinstance(named.type, TensorType) and named.type.dtype is dtypes.FP16
        if not half or operation.type not in OPS or OPS[operation.type].arithmetic == "moves":
            return
        magnitude = np.abs(raw)
        self._count(operation, named, "overflow", magnitude >= _ROUNDS_TO_INFINITY, raw)
        self._count(operation, named, "underflow", (magnitude > 0) & (magnitude <= _ROUNDS_TO_ZERO), raw)
        self._count(operation, named, "not_a_number", np.isnan(raw), raw)

    def _count(self, operation: Operation, named: Named, kind: Kind, where: Array, raw: Array) -> None:
        key = (operation.type, named.name, kind)
        count, size, extreme = self._found.get(key, (0, 0, 0.0))
        affected = raw[where]
        if affected.size:
            largest = float(affected.reshape(-1)[np.argmax(np.abs(affected))])
            extreme = max(extreme, largest, key=abs)
        self._found[key] = (count + affected.size, size + raw.size, extreme)

    def flags(self) -> list[Flag]:
        """Return what was found, in order of execution."""
        return [Flag(*key, *seen) for key, seen in self._found.items() if seen[0]]


def constant_flags(program: Program) -> list[Flag]:
    """Return fp16 constants that are infinite or subnormal, with the operation that reads each.

    A LayerNorm epsilon of 1e-12 becomes 5.96e-8, the smallest subnormal: a device that flushes it has none.
    """
    readers = _readers(program)
    found = []
    for name, value in program.weights():
        if value.dtype != np.float16 or name not in readers:
            continue
        magnitude = np.abs(value.astype(np.float32))
        tests: Mapping[Kind, Array] = {
            "subnormal_constant": (magnitude > 0) & (magnitude < SMALLEST_NORMAL),
            "infinite_constant": ~np.isfinite(magnitude),
        }
        for kind, where in tests.items():
            if where.any():
                extreme = float(value[where].astype(np.float32).reshape(-1)[np.argmax(magnitude[where])])
                found.append(Flag(readers[name], name, kind, int(where.sum()), value.size, extreme))
    return found


def _readers(program: Program) -> dict[str, str]:
    return dict(reversed(list(_reads(program))))


def _reads(program: Program) -> Iterator[tuple[str, str]]:
    for operation in program.function.block.walk():
        if not operation.type.startswith("constexpr_"):
            for key, arguments in operation.inputs.items():
                yield from ((a, f"{operation.type}({key})") for a in arguments if isinstance(a, str))
