"""What a sweep found: per platform its variants and their front, whom they suit, and what the jobs shared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.reporting.pareto import front
from stages.sweeping import pareto
from stages.sweeping.pareto import Point
from stages.sweeping.points import points_of
from stages.sweeping.recommend import Recommendation, recommend_all
from stages.sweeping.settings import Sweep
from stages.tasks.base import Primary


@dataclass(frozen=True)
class Platform:
    """What a sweep found for one platform.

    Attributes:
        target: the platform.
        goals: those measured there.
        points: all variants.
        front: those that none dominates.
        volumes: hypervolume after each trial.
    """

    target: str
    goals: list[str]
    points: list[Point]
    front: list[Point]
    volumes: list[float]


@dataclass(frozen=True)
class Findings:
    """All that the page says; `primary` is how good a variant of the sweep's task is."""

    primary: Primary
    platforms: list[Platform]
    recommendations: list[Recommendation]
    sharing: list[dict[str, Any]]
    records: list[Mapping[str, Any]]


def find(settings: Sweep, records: Sequence[Mapping[str, Any]], primary: Primary) -> Findings:
    """Compare all variants of a sweep.

    Args:
        settings: goals and devices.
        records: of all jobs that have ended.
        primary: how good a variant is.
    """
    points = points_of(records)
    jobs = list(dict.fromkeys(point.job for point in points))
    platforms = []
    for target, mine in sorted(pareto.by_target(points).items()):
        goals = pareto.goals_of(mine, settings.goals)
        trials = [[point for point in mine if point.job == job] for job in jobs]
        volumes = pareto.progress([trial for trial in trials if trial], goals)
        best = front(sorted(mine, key=lambda point: point.label), goals)
        platforms.append(Platform(target, goals, mine, best, volumes))
    found = recommend_all(settings.profiles, points, primary)
    return Findings(primary, platforms, found, sharing(records), list(records))


def sharing(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Count, per kind of stage, how many different ones the jobs needed and how often one was computed.

    Returns:
        Rows of `stage`, `needed` (by all jobs), `different`, `ran`, `most` (how often the same one ran; 1 is right, 0
        is what an earlier build had computed), `cpu_s`.
    """
    needed: Counter[str] = Counter()
    ran: dict[str, Counter[str]] = {}
    cpu: Counter[str] = Counter()
    keys: dict[str, set[str]] = {}
    for record in records:
        for step in record["steps"]:
            if not step["key"]:
                continue
            kind = step["stage"].partition("@")[0]
            needed[kind] += 1
            keys.setdefault(kind, set()).add(step["key"])
            if step["how"] == "ran":
                ran.setdefault(kind, Counter())[step["key"]] += 1
                cpu[kind] += step["cpu_s"]
    return [
        {
            "stage": kind,
            "needed": needed[kind],
            "different": len(keys[kind]),
            "ran": sum(ran.get(kind, {}).values()),
            "most": max(ran.get(kind, {}).values(), default=0),
            "cpu_s": round(cpu[kind], 1),
        }
        for kind in needed
    ]
