"""Draw a sweep: how good against a cost with the front in front, and how the hypervolume grew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from stages.measure.registry import REGISTRY
from stages.reporting import wording
from stages.reporting.evidence import rank
from stages.reporting.svg import Frame, Linear, Log, around, element, mark
from stages.reporting.tradeoff import factor, in_words, most
from stages.sweeping.pareto import Point
from stages.tasks.base import Primary

FRAME = Frame(width=580.0, height=344.0, left=46.0, right=566.0, top=22.0, bottom=296.0)
UNITS = {"latency_p50_ms": ("p50 latency at the true length, ms", 1.0), "size_bytes": ("size on disk, MB", 1e-6)}


def scatter(points: Sequence[Point], front: Sequence[Point], cost: str, primary: Primary) -> Markup:
    """Draw the variants of one platform.

    Args:
        points: all of them; those without the cost or the metric have no place.
        front: those that none dominates in all goals; they carry their numbers in the table.
        cost: metric of the x axis.
        primary: how good they are, on the y axis.
    """
    shown = [point for point in points if cost in point.values and primary.metric in point.values]
    if not shown:
        return Markup('<p class="absent">Nothing to plot: no variant has both figures.</p>')
    unit, scale = UNITS.get(cost, (REGISTRY[cost].meaning, 1.0))
    quality = {point.label: factor(primary.metric) * point.values[primary.metric] for point in shown}
    x, y = _scales(shown, cost, scale, quality, primary.metric)
    numbers = {point.label: number for number, point in enumerate(front, 1)}
    parts = _axes(x, y, f"{unit} (log scale)", ", ".join(filter(None, (primary.said, wording.unit(primary.metric)))))
    # The front last, on top of what it dominates.
    for point in sorted(shown, key=lambda point: point.label in numbers):
        parts += _point(point, numbers.get(point.label), x(point.values[cost] * scale), y(quality[point.label]))
    return FRAME.plot(f"{in_words(primary)} against {unit}, one mark per variant", *parts)


def _scales(
    shown: Sequence[Point], cost: str, scale: float, quality: Mapping[str, float], metric: str
) -> tuple[Log, Linear]:
    costs = [point.values[cost] * scale for point in shown]
    # A broken artifact's answers would squeeze all others into one line: it sits on the edge.
    good = [point for point in shown if point.verdict == "pass"] or shown
    return FRAME.scales(costs, around([quality[point.label] for point in good], 0.12, 0.5), 1.3, most(metric))


def _axes(x: Log | Linear, y: Linear, below: str, title: str) -> list[Markup]:
    return [element("text", title, x=FRAME.left, y=FRAME.top - 2, class_="name"), *FRAME.axes(x, y, below)]


def _point(point: Point, number: int | None, px: float, py: float) -> list[Markup]:
    place, said = rank(point.target), f"{point.label}: {point.verdict or 'screened out'}"
    if number is None:
        hollow = "" if point.verdict == "pass" else " hollow"
        return [mark(place, px, py, f"mark beaten{hollow} t{place}", 4, said)]
    text = element("text", str(number), x=px, y=py - 9, text_anchor="middle", class_=f"point t{place}")
    return [mark(place, px, py, f"mark t{place}", 5.5, said), text]


def growth(volumes: Sequence[float], target: str) -> Markup:
    """Draw the hypervolume after every trial, as stairs from 0 to what the last one reached."""
    x = Linear(0, max(len(volumes), 2), FRAME.left, FRAME.right)
    y = Linear(0, max(1e-9, *volumes) * 1.05, FRAME.bottom, FRAME.top)
    path = f"M{x(0):.1f} {y(0):.1f}" + "".join(
        f"V{y(volume):.1f}H{x(trial):.1f}" for trial, volume in enumerate(volumes, 1)
    )
    line = element("path", d=path, class_=f"front t{rank(target)}")
    parts = [*_axes(x, y, "jobs ended", "hypervolume"), line]
    return FRAME.plot(f"hypervolume of {target} after each job", *parts)
