"""What is known of a target without any of its tools: the surface of its package's `__init__`, and how to find it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Protocol, cast, get_args

from stages.core.names import module_name
from stages.schema.variant import Precision, TargetName

NOT_RUN = "a reference executor interpreted the program; no latency is known"
"""What `Executor.instead_of` means for whoever reads a verdict."""


@dataclass(frozen=True)
class Executor:
    """What ran an artifact, and what that says of the numbers beside it.

    Attributes:
        label: its name in every file, as `Session.label` gives it.
        meaning: what a reader of the figures must know of it.
        note: where its numerics are not the device's, for a reader of the verdict; or empty.
        instead_of: the platform's own runtime, where this only interprets what that would run; or empty.
    """

    label: str
    meaning: str
    note: str = ""
    instead_of: str = ""


class Facts(Protocol):
    """A target's package.

    Attributes:
        SUPPORTED: the precisions it can be lowered to, for error messages.
        CONVERTED_WITH: distributions whose versions `convert` records.
        QUANTIZED_WITH: those that `quantize` records.
        EXECUTED_WITH: those whose versions decide what its artifacts answer on a host, and how fast.
        LIBRARY: the runtime's own package. An app links it: what importing it costs is no part of a load time.
        EXECUTORS: all that may run its artifacts.
    """

    SUPPORTED: str
    CONVERTED_WITH: tuple[str, ...]
    QUANTIZED_WITH: tuple[str, ...]
    EXECUTED_WITH: tuple[str, ...]
    LIBRARY: str
    EXECUTORS: tuple[Executor, ...]

    def supports(self, precision: Precision) -> bool:
        """Tell whether `quantize` can lower to this precision."""


def facts(target: str) -> Facts:
    """Import a target's package, and none of its parts."""
    return cast(Facts, importlib.import_module(f"stages.targets.{module_name(target)}"))


def runtimes() -> list[str]:
    """Name the distributions that execute artifacts of any target."""
    return sorted({name for target in get_args(TargetName) for name in facts(target).EXECUTED_WITH})


def executor(label: str | None, *targets: str) -> Executor:
    """Find what ran an artifact by its label, among those of `targets` or all; one that says so where none has it."""
    known = (one for target in targets or get_args(TargetName) for one in facts(target).EXECUTORS)
    return next((one for one in known if one.label == label), Executor(label or "", "Nothing is known of it."))
