"""Find which weights of an ONNX graph bear the lower of two precisions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from stages.schema.variant import Mixed
from stages.targets import mixing
from stages.targets.onnx_cpu import graph, lowering
from stages.targets.onnx_cpu.runtime import open_runtime


def find(converted: Path, precision: Mixed, calibration: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Choose the weights to lower: see `mixing.choose`."""
    weights = graph.weights(graph.load(converted / graph.MODEL))

    def lower(low: frozenset[str], out: Path) -> int:
        model = graph.load(converted / graph.MODEL)
        lowering.lower(model, lowering.shares(weights, precision, low), {})
        graph.write(model, out / graph.MODEL)
        return (out / graph.MODEL).stat().st_size

    names = [
        weight.name
        for weight in weights
        if weight.elements >= lowering.SMALLEST and (precision.among == "all" or weight.kind == "lookup")
    ]
    return mixing.choose(names, precision, calibration, converted, lower, open_runtime)
