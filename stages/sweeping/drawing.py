"""Draw a sweep: accuracy against a cost with the front in front, and how the hypervolume grew."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from stages.measure.registry import REGISTRY
from stages.reporting.evidence import TARGETS
from stages.reporting.svg import Linear, Log, around, canvas, element, mark
from stages.sweeping.pareto import Point

WIDTH, HEIGHT = 580.0, 344.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 566.0, 22.0, 296.0
QUALITY = "accuracy"
UNITS = {"latency_p50_ms": ("p50 latency at the true length, ms", 1.0), "size_bytes": ("size on disk, MB", 1e-6)}


def rank(target: str) -> int:
    """Return the place of a platform, which fixes its colour and mark."""
    return TARGETS.index(target) if target in TARGETS else len(TARGETS)


def scatter(points: Sequence[Point], front: Sequence[Point], cost: str) -> Markup:
    """Draw the variants of one platform.

    Args:
        points: all of them; those without the cost or an accuracy have no place.
        front: those that none dominates in all goals; they carry their numbers in the table.
        cost: metric of the x axis.
    """
    shown = [point for point in points if cost in point.values and QUALITY in point.values]
    if not shown:
        return Markup('<p class="absent">Nothing to plot: no variant has both figures.</p>')
    unit, scale = UNITS.get(cost, (REGISTRY[cost].meaning, 1.0))
    x, y = _scales(shown, cost, scale)
    numbers = {point.label: number for number, point in enumerate(front, 1)}
    parts = _axes(x, y, f"{unit} (log scale)", "accuracy, %")
    # The front last, on top of what it dominates.
    for point in sorted(shown, key=lambda point: point.label in numbers):
        parts += _point(point, numbers.get(point.label), x(point.values[cost] * scale), y(100 * point.values[QUALITY]))
    return canvas(WIDTH, HEIGHT, f"accuracy in percent against {unit}, one mark per variant", *parts, class_="plot")


def _scales(shown: Sequence[Point], cost: str, scale: float) -> tuple[Log, Linear]:
    costs = [point.values[cost] * scale for point in shown]
    # A broken artifact's accuracy would squeeze all others into one line: it sits on the lower edge.
    good = [point for point in shown if point.verdict == "pass"] or shown
    low, high = around([100 * point.values[QUALITY] for point in good], 0.12, 0.5)
    return Log(min(costs) / 1.25, max(costs) * 1.3, LEFT, RIGHT), Linear(max(low, 0), min(high, 100.4), BOTTOM, TOP)


def _axes(x: Log | Linear, y: Linear, below: str, title: str) -> list[Markup]:
    parts = [element("text", title, x=LEFT, y=TOP - 2, class_="name")]
    for tick in y.ticks(6):
        parts.append(element("line", x1=LEFT, x2=RIGHT, y1=y(tick), y2=y(tick), class_="grid"))
        parts.append(element("text", f"{tick:g}", x=LEFT - 7, y=y(tick) + 4, text_anchor="end", class_="tick"))
    for tick in x.ticks() if isinstance(x, Log) else x.ticks(8):
        parts.append(element("line", x1=x(tick), x2=x(tick), y1=BOTTOM, y2=BOTTOM + 4, class_="axis"))
        parts.append(element("text", f"{tick:g}", x=x(tick), y=BOTTOM + 18, text_anchor="middle", class_="tick"))
    parts.append(element("line", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM, class_="axis"))
    parts.append(element("text", below, x=(LEFT + RIGHT) / 2, y=BOTTOM + 40, text_anchor="middle", class_="name"))
    return parts


def _point(point: Point, number: int | None, px: float, py: float) -> list[Markup]:
    place, said = rank(point.target), f"{point.label}: {point.verdict or 'screened out'}"
    if number is None:
        hollow = "" if point.verdict == "pass" else " hollow"
        return [mark(place, px, py, f"mark beaten{hollow} t{place}", 4, said)]
    text = element("text", str(number), x=px, y=py - 9, text_anchor="middle", class_=f"point t{place}")
    return [mark(place, px, py, f"mark t{place}", 5.5, said), text]


def growth(volumes: Sequence[float], target: str) -> Markup:
    """Draw the hypervolume after every trial, as stairs from 0 to what the last one reached."""
    x, y = Linear(0, max(len(volumes), 2), LEFT, RIGHT), Linear(0, max(1e-9, *volumes) * 1.05, BOTTOM, TOP)
    path = f"M{x(0):.1f} {y(0):.1f}" + "".join(
        f"V{y(volume):.1f}H{x(trial):.1f}" for trial, volume in enumerate(volumes, 1)
    )
    line = element("path", d=path, class_=f"front t{rank(target)}")
    parts = [*_axes(x, y, "jobs ended", "hypervolume"), line]
    return canvas(WIDTH, HEIGHT, f"hypervolume of {target} after each job", *parts, class_="plot")
