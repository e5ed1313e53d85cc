"""The Pareto front: variants that no other passing variant of their platform beats on both axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stages.reporting.evidence import Line

ROW = ("latency_p50_ms", "size_bytes", "accuracy", "top1_agreement")


def plottable(line: Line, cost: str) -> bool:
    """Whether a variant has a place on the plot: both its cost and its accuracy were measured."""
    return cost in line.values and "accuracy" in line.values


def front(lines: Sequence[Line], cost: str) -> list[Line]:
    """Select the passing variants that are cheapest for their accuracy.

    Args:
        lines: variants of one platform.
        cost: metric on the other axis, lower is better.

    Returns:
        By ascending cost. A variant without a passing verdict is never among them, however fast it is: what it
        computes quickly is not what the reference computes.
    """
    passing = [line for line in lines if line.verdict == "pass" and plottable(line, cost)]

    def beaten(line: Line) -> bool:
        mine = (line.values[cost], -line.values["accuracy"])
        others = [(other.values[cost], -other.values["accuracy"]) for other in passing]
        return any(x <= mine[0] and y <= mine[1] and (x, y) != mine for x, y in others)

    return sorted((line for line in passing if not beaten(line)), key=lambda line: (line.values[cost], line.key))


def rows(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return `pareto.json` for `dvc plots`: one row per variant, null where nothing was measured."""
    identity = ("target", "precision", "compression", "verdict")
    return [
        {"variant": line.key}
        | {name: getattr(line, name) for name in identity}
        | {name: line.values.get(name) for name in ROW}
        for line in lines
    ]
