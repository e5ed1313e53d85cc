"""Sift what was measured: what its metric cannot be is no measurement, and what must be there is missed.

A benchmark that timed nothing, a latency of 0 ms or an accuracy of 1.7 is written down by something that broke. No
threshold need name the metric: whoever reads a table or a card trusts every number in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from stages.measure.metric import Metric
from stages.measure.registry import CACHE, PERCENTILES, REGISTRY, RUNS
from stages.tasks.facts import Facts

N = "n"
"""Size of the test split, which stands among the metrics and is none."""


@dataclass(frozen=True)
class Flat:
    """Metrics by name: numbers, 95 % intervals, the items behind each, and the texts where a text has several."""

    values: dict[str, Any]
    intervals: dict[str, Any]
    counts: dict[str, int]
    texts: dict[str, int] = field(default_factory=dict)

    def independent(self, name: str) -> int:
        """Return how many independent items a metric was measured on: those of one text are none."""
        return self.texts.get(name, self.counts.get(name, 0))

    def add(self, part: Mapping[str, Any]) -> None:
        """Take over what one part of a `metrics.json` has."""
        for name in ("values", "intervals", "counts", "texts"):
            getattr(self, name).update(part.get(name, {}))


def sift(found: Flat) -> tuple[Flat, list[str]]:
    """Separate numbers that their metric can have from what is none.

    Returns:
        What is sound, and one line for each that is not. A rate without its interval is not: it would stand beside
        its sample size as if it were exact.
    """
    kept, unsound = Flat({}, {}, dict(found.counts), dict(found.texts)), []
    for name, value in sorted(found.values.items()):
        metric = REGISTRY.get(name)
        if name == N:
            counted = isinstance(value, int) and not isinstance(value, bool) and value > 0
            reason = "" if counted else f"the test split has {value!r} texts"
        elif metric is None:
            reason = f"{name} is no registered metric"
        else:
            reason = metric.impossible(value) or (_broken_interval(name, found) if metric.interval else "")
        if reason:
            unsound.append(reason)
            continue
        kept.values[name] = value
        if name in found.intervals:
            kept.intervals[name] = found.intervals[name]
    return kept, unsound


def absent(values: Mapping[str, Any], task: Facts, *, read: bool, executed: bool, timed: bool) -> list[str]:
    """Name every registered metric that must have been measured and was not.

    Args:
        values: all that was found, sound or not.
        task: says which metrics of quality and which latencies it has; others' are not asked for.
        read: whether the artifact could be read and did not break, which would be why nothing else is there.
        executed: whether a runtime ran the artifact. Where it answered NaN nothing more is asked for: that is why.
        timed: whether a benchmark was taken.
    """
    own = {task.PRIMARY.metric, task.PRIMARY.to_reference, task.PRIMARY.to_teacher}
    own |= {f"{prefix}_p{percent}_ms" for prefix in task.LATENCIES.values() for percent in PERCENTILES} | {*task.SPEEDS}
    answered = executed and not values.get("non_finite_count")
    happened = {"always": True, "read": read, "executed": answered, "timed": timed, "asked": False}
    return [
        f"{name} was not measured"
        for name, metric in REGISTRY.items()
        if happened[metric.sample.when] and name not in values and (name in own or not _of_some_tasks(metric))
    ]


def _of_some_tasks(metric: Metric) -> bool:
    """Whether the task says that there is such a metric: of answers, of timed calls, and of what these leave."""
    return metric.group == "quality" or metric.sample in (RUNS, CACHE)


def _broken_interval(name: str, found: Flat) -> str:
    ends = found.intervals.get(name, ())
    if len(ends) != 2:
        return f"{name} has no interval"
    numbers = all(isinstance(end, int | float) and isfinite(end) for end in ends)
    if not numbers or ends[0] > ends[1]:
        return f"{name} has an interval of {list(ends)}"
    return ""
