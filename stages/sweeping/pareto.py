"""The points of a sweep, and how much of the goals' space they cover."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stages.reporting.pareto import Vector, costs, dominates, eligible


@dataclass(frozen=True)
class Point:
    """A variant that some job built or began to build.

    Attributes:
        job: id of the job.
        variant: its key in that job.
        label: the key and what else tells the sweep's jobs apart; unique in the sweep.
        apart: the latter.
        target: its platform.
        compression: what was done to the checkpoint.
        precision: what it was lowered to.
        verdict: the gate's, None where screening stopped the job before it.
        reasons: why it is no pass.
        values: metric → number, what was measured.
        intervals: metric → interval.
        foreign_cores: other work on the host during its benchmark, None where that is not known.
        devices: chosen device that its platform is for → why it cannot have it, nothing where it can.
    """

    job: str
    variant: str
    label: str
    apart: str
    target: str
    compression: str
    precision: str
    verdict: str | None
    reasons: list[str]
    values: dict[str, float]
    intervals: dict[str, list[float]]
    foreign_cores: float | None = None
    devices: Mapping[str, Sequence[str]] = field(default_factory=dict)


def goals_of(points: Sequence[Point], goals: Sequence[str]) -> list[str]:
    """Return the goals that were measured for some passing variant; Core ML has no latency on Linux."""
    return [goal for goal in goals if any(goal in point.values for point in points if point.verdict == "pass")]


def box(points: Sequence[Point], goals: Sequence[str]) -> tuple[Vector, Vector] | None:
    """Return the best and worst of every goal among passing variants, or None where there are none."""
    found = [costs(point, goals) for point in eligible(points, goals)]
    if not found or not goals:
        return None
    return tuple(map(min, zip(*found, strict=True))), tuple(map(max, zip(*found, strict=True)))


def hypervolume(vectors: Sequence[Vector]) -> float:
    """Measure what part of the unit cube some vectors dominate; 0 is best in each dimension, 1 is the reference.

    By slicing along the last dimension (Zitzler, 1999): exact, and quick for the fronts of a sweep.
    """
    inside = sorted({vector for vector in vectors if all(value < 1 for value in vector)}, key=lambda v: v[-1])
    if not inside:
        return 0.0
    if len(inside[0]) == 1:
        return 1 - inside[0][0]
    ends = [vector[-1] for vector in inside[1:]] + [1.0]
    return sum(
        hypervolume([vector[:-1] for vector in inside[: index + 1]]) * (end - inside[index][-1])
        for index, end in enumerate(ends)
        if end > inside[index][-1]
    )


def progress(trials: Sequence[Sequence[Point]], goals: Sequence[str]) -> list[float]:
    """Return the hypervolume after every trial.

    The cube spans, per goal, from the best to the worst that any trial reached and a tenth more, so that the worst
    still counts for something.

    Args:
        trials: the points of each job, in the order they ended, one platform's.
        goals: metrics, those measured on this platform.
    """
    everything = [point for trial in trials for point in trial]
    bounds = box(everything, goals)
    if bounds is None:
        return [0.0] * len(trials)
    low, high = bounds
    spans = [1.1 * (worst - best) or 1.0 for best, worst in zip(low, high, strict=True)]
    kept: list[Vector] = []
    volumes: list[float] = []
    for trial in trials:
        fresh = [
            tuple((value - best) / span for value, best, span in zip(costs(point, goals), low, spans, strict=True))
            for point in eligible(trial, goals)
        ]
        fresh = [one for one in fresh if not any(dominates(other, one) or other == one for other in kept)]
        if fresh:
            kept = [one for one in kept if not any(dominates(other, one) for other in fresh)] + fresh
            volumes.append(hypervolume(kept))
        else:
            volumes.append(volumes[-1] if volumes else 0.0)
    return volumes


def by_target(points: Sequence[Point]) -> Mapping[str, list[Point]]:
    """Group points by platform."""
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(point.target, []).append(point)
    return groups
