"""Hold how good an artifact is to its teacher and to the honesty bar: numbers that say nothing alone."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from pathlib import Path
from typing import Any

from stages.core import artifact
from stages.gating.verdict import Measurement
from stages.measure.statistics import share_left
from stages.schema.layout import place
from stages.schema.verdict import Bar, Entry
from stages.tasks.base import Primary
from stages.tasks.facts import shown


def add(measured: Measurement, primary: Primary, teacher: Mapping[str, Any], bar: Bar) -> None:
    """Measure the share of the teacher's score that is kept, and the distance to the honesty bar, if it was run.

    The share's interval follows from that of the paired drop to the teacher, whose own score is taken as it is. The
    distance's is Newcombe's for two proportions as if of different texts: it is of the same, so the interval is wide.

    Source: Newcombe, Statistics in Medicine 17 (1998) 873, method 10: what both Wilson intervals leave, as squares.

    Args:
        measured: of the variant; gains the metrics that `primary` names.
        primary: the metric that the task's models are chosen by.
        teacher: its `evaluation.json`.
        bar: the honesty bar.
    """
    values, metric = measured.values, primary.metric
    if metric not in values or metric not in measured.intervals:
        return
    found = {}
    if primary.kept and primary.to_teacher in measured.intervals and teacher[metric] > 0:
        found[primary.kept] = share_left(values[metric], teacher[metric], *measured.intervals[primary.to_teacher])
    if primary.over_bar:
        (low, high), (bar_low, bar_high) = measured.intervals[metric], bar["interval"]
        over = values[metric] - bar["value"]
        below, above = values[metric] - low, high - values[metric]
        ends = [
            max(-1.0, over - sqrt(below**2 + (bar_high - bar["value"]) ** 2)),
            min(1.0, over + sqrt(above**2 + (bar["value"] - bar_low) ** 2)),
        ]
        found[primary.over_bar] = (over, ends)
    for name, (value, ends) in found.items():
        values[name], measured.intervals[name] = value, ends
        for counts in (measured.counts, measured.texts):
            if metric in counts:
                counts[name] = counts[metric]


def add_student(measured: Measurement, primary: Primary, student: Mapping[str, Any]) -> None:
    """Take over what students are chosen by, which the test split has no part in.

    Args:
        measured: of a variant; gains the metric.
        primary: names it.
        student: its `evaluation.json`, in which it stands unless the teacher was passed through.
    """
    name = primary.on_validation
    if name and name in student:
        measured.values[name] = student[name]
        measured.intervals[name] = student[f"{name}_interval"]
        measured.counts[name] = student[f"{name}_n"]


def bar_of(baseline: Mapping[str, Any], primary: Primary) -> Bar:
    """Return the honesty bar as verdicts have it.

    Args:
        baseline: of the data's `summary.json`.
        primary: says its metric.
    """
    metric = primary.of_bar
    return {
        "interval": [float(end) for end in baseline[f"{metric}_interval"]],
        "method": baseline["method"],
        "metric": metric,
        "value": baseline[metric],
    }


def read(build: Path, primary: Primary) -> tuple[Mapping[str, Any], Bar]:
    """Read what the teacher of a build scores, and the honesty bar."""
    summary = artifact.read_json(place(build, "data") / "summary.json")
    return artifact.read_json(place(build, "teacher") / "evaluation.json"), bar_of(summary["baseline"], primary)


def beaten(entry: Entry, primary: Primary) -> list[str]:
    """Say that what is no transformer does better, where it does."""
    over = entry["metrics"].get(primary.over_bar, 0.0) if primary.over_bar else 0.0
    if over >= 0:
        return []
    bar, (factor, unit) = entry["bar"], shown(primary.metric)
    low, high = sorted(-factor * end for end in entry["intervals"][primary.over_bar])
    points = "points" if unit == "%" else unit
    return [
        f"{bar['method']} is better on this test split: {primary.said} {factor * bar['value']:.2f} {unit}, "
        f"{-factor * over:.2f} {points} more [{low:.2f}, {high:.2f}]"
    ]
