"""Draw how good against latency or size, with the Pareto front of each platform, and say it in rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from markupsafe import Markup

from stages.reporting import wording
from stages.reporting.evidence import Line
from stages.reporting.pareto import front
from stages.reporting.svg import Frame, Linear, Log, around, element, mark
from stages.tasks.base import Primary
from stages.tasks.facts import shown

FRAME = Frame(width=580.0, height=372.0, left=46.0, right=566.0, top=14.0, bottom=326.0)
# A name further from its mark than this, in pixels, is tied to it by a line.
FAR = 20
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Axes:
    """Where a variant lies.

    Attributes:
        cost: metric on the x axis.
        scale: from the metric's unit to that axis'.
        quality: metric on the y axis.
    """

    cost: str
    scale: float
    quality: str

    def x(self, line: Line) -> float:
        """Return what it costs."""
        return line.values[self.cost] * self.scale

    def y(self, value: float) -> float:
        """Return how good a value of the metric is, as the axis says it."""
        return factor(self.quality) * value


def factor(metric: str) -> float:
    """Return by what a metric is multiplied on an axis."""
    return shown(metric)[0]


def in_words(primary: Primary) -> str:
    """Name the metric and its unit, for who reads no drawing."""
    return f"{primary.said} in percent" if shown(primary.metric)[1] == "%" else primary.said


def tradeoff(lines: Sequence[Line], cost: str, unit: str, scale: float, teacher: float, primary: Primary) -> Markup:
    """Draw one plot.

    Args:
        lines: the variants; those without cost or quality are left out (the page says which).
        cost: metric on the x axis.
        unit: of the axis.
        scale: from the metric's unit to the axis'.
        teacher: how good the teacher is, drawn as a line.
        primary: what that is measured by.
    """
    axes = Axes(cost, scale, primary.metric)
    found = [line for line in lines if {cost, primary.metric} <= set(line.values)]
    if not found:
        return Markup('<p class="absent">Nothing to plot: no variant has both figures.</p>')
    x, y = _scales(found, axes, teacher)
    parts = [*FRAME.axes(x, y, f"{unit} (log scale)"), _teacher(y, axes, teacher)]
    for rank in sorted({line.rank for line in found}):
        parts.append(_step([line for line in found if line.rank == rank], x, y, axes))
    parts += [_point(line, x, y, axes) for line in found]
    parts += _labels(found, x, y, axes, teacher)
    return FRAME.plot(f"{in_words(primary)} against {unit}, one mark per variant", *parts)


def pareto_rows(lines: Sequence[Line], metric: str) -> list[dict[str, Any]]:
    """Return `pareto.json` for `dvc plots`, whose columns are the same for every task.

    Args:
        lines: the variants, a row each; null where nothing was measured.
        metric: what `quality` is.
    """
    identity = ("target", "precision", "compression", "verdict")
    return [
        {"variant": line.key}
        | {name: getattr(line, name) for name in identity}
        | {name: line.values.get(name) for name in ("latency_p50_ms", "size_bytes", "top1_agreement")}
        | {"metric": metric, "quality": line.values.get(metric)}
        for line in lines
    ]


def _scales(shown: Sequence[Line], axes: Axes, teacher: float) -> tuple[Log, Linear]:
    # A broken artifact's answers would squeeze all others into one line: it sits on the edge with an arrow.
    good = [line for line in shown if line.verdict == "pass"] or shown
    bounds = [axes.y(bound) for line in good for bound in line.intervals[axes.quality]]
    return FRAME.scales(
        [axes.x(line) for line in shown], around([*bounds, axes.y(teacher)], 0.06, 1.0), 1.6, most(axes.quality)
    )


def most(quality: str) -> float:
    """Return where an axis of a metric ends at the latest: a little above 100 %, or nowhere."""
    return 100.4 if wording.unit(quality) == "%" else inf


def _teacher(y: Linear, axes: Axes, teacher: float) -> Markup:
    height = y(axes.y(teacher))
    line = element("line", x1=FRAME.left, x2=FRAME.right, y1=height, y2=height, class_="teacher")
    label = f"teacher {wording.measure(teacher, axes.quality)}"
    return Markup("").join(
        [line, element("text", label, x=FRAME.right, y=height - 5, text_anchor="end", class_="teacher-name")]
    )


def _step(lines: Sequence[Line], x: Log, y: Linear, axes: Axes) -> Markup:
    """Draw the front as stairs: between two variants nothing better is on offer than the cheaper one."""
    best = front(lines, (axes.cost, axes.quality))
    if not best:
        return Markup("")
    path = ""
    for index, line in enumerate(best):
        px, py = x(axes.x(line)), y(axes.y(line.values[axes.quality]))
        path += f"M{px:.1f} {py:.1f}" if index == 0 else f"H{px:.1f}V{py:.1f}"
    keys = " ".join(line.key for line in best)
    return element("path", d=f"{path}H{FRAME.right:.1f}", class_=f"front t{best[0].rank}", data_front=keys)


def _point(line: Line, x: Log, y: Linear, axes: Axes) -> Markup:
    px, py = x(axes.x(line)), y(axes.y(line.values[axes.quality]))
    low, high = (y(axes.y(bound)) for bound in line.intervals[axes.quality])
    hollow = "" if line.verdict == "pass" else " hollow"
    title = (
        f"{line.key}: {wording.measure(line.values[axes.quality], axes.quality)}, "
        f"{wording.magnitude(axes.x(line))}; {line.verdict.replace('_', ' ')}"
    )
    whisker = element("line", x1=px, x2=px, y1=low, y2=high, class_=f"whisker t{line.rank}")
    return Markup("").join([whisker, mark(line.rank, px, py, f"mark t{line.rank}{hollow}", title=title)])


def _labels(shown: Sequence[Line], x: Log, y: Linear, axes: Axes, teacher: float) -> list[Markup]:
    """Place each name at the nearest spot where it covers no mark, no other name and no edge."""
    spots = {line.key: (x(axes.x(line)), y(axes.y(line.values[axes.quality]))) for line in shown}
    taken: list[Box] = [(px - 6, py - 6, px + 6, py + 6) for px, py in spots.values()]
    taken.append((FRAME.right - 105, y(axes.y(teacher)) - 16, FRAME.right, y(axes.y(teacher)) - 1))
    parts = []
    for line in sorted(shown, key=lambda line: spots[line.key]):
        px, py = spots[line.key]
        text = line.short if line.verdict == "pass" else f"{line.short} ({line.verdict.replace('_', ' ')})"
        value = line.values[axes.quality]
        if not y.low <= axes.y(value) <= y.high:
            text += f" {'↓' if axes.y(value) < y.low else '↑'} {wording.measure(value, axes.quality, 1)}"
        box = _place(px, py, 6.3 * len(text), taken)
        taken.append(box)
        if abs(box[3] - 3 - py) > FAR:
            foot = (box[0] if box[0] > px else box[2], (box[1] + box[3]) / 2)
            parts.append(element("line", x1=px, y1=py, x2=foot[0], y2=foot[1], class_=f"leader t{line.rank}"))
        parts.append(element("text", text, x=box[0], y=box[3] - 3, class_=f"point t{line.rank}"))
    return parts


def _place(px: float, py: float, width: float, taken: Sequence[Box]) -> Box:
    """Return the first free box of a name: right of its mark, left of it, then further up and down."""
    near = [(left, dy) for dy in (-8, 16, 4) for left in (px + 8, px - 8 - width)]
    far = [(left, dy) for dy in (30, -22, 44, -36, 58, -50, 72) for left in (px + 16, px - 16 - width)]
    boxes = [(left, py + dy - 10, left + width, py + dy + 3) for left, dy in (*near, *far)]
    free = (box for box in boxes if _inside(box) and not any(_overlap(box, other) for other in taken))
    return next(free, boxes[0])


def _overlap(first: Box, second: Box) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def _inside(box: Box) -> bool:
    return box[0] >= FRAME.left and box[2] <= FRAME.width and box[1] >= 0 and box[3] <= FRAME.bottom
