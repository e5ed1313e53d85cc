"""Find which weights of a program bear the lower of two precisions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from stages.schema.variant import CoremlMetal, Mixed
from stages.targets import mixing
from stages.targets.coreml_metal import lowering
from stages.targets.coreml_metal.package import PACKAGE, WEIGHTS, constants, looked_up
from stages.targets.coreml_metal.runtime import open_runtime


def find(
    converted: Path, precision: Mixed, calibration: Mapping[str, NDArray[Any]], target: CoremlMetal
) -> dict[str, Any]:
    """Choose the weights to lower: see `mixing.choose`. On hosts without Core ML the reference executor answers."""

    def lower(low: frozenset[str], out: Path) -> int:
        lowering.lower(converted, precision, target, out / PACKAGE, {}, low)
        return (out / PACKAGE / WEIGHTS).stat().st_size

    names = [constant.name for constant in constants(converted / PACKAGE) if constant.is_weight]
    if precision.among == "tables":
        tables = looked_up(converted / PACKAGE)
        names = [name for name in names if name in tables]
    return mixing.choose(names, precision, calibration, converted, lower, open_runtime)
