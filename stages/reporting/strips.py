"""Draw one table cell each: an interval on a shared axis, a histogram on a shared axis."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from stages.reporting import wording
from stages.reporting.gaps import Gap
from stages.reporting.svg import Linear, Log, around, canvas, element, mark

GAP_WIDTH, GAP_HEIGHT = 360.0, 24.0
HISTOGRAM_WIDTH, HISTOGRAM_HEIGHT, BASE = 330.0, 34.0, 32.0
EDGE = 8.0
BINS_PER_DECADE = 4
# A difference below this is rounding, of no interest to anyone, and would stretch the axis.
FLOOR = 1e-9


def gap_axis(gaps: Sequence[Gap]) -> Linear:
    """Return an axis in points that holds all these gaps, zero always on it.

    Broken artifacts are better left out: one that lost 40 points would squeeze all others into the zero line.
    """
    bounds = [100 * bound for gap in gaps if gap.lost for bound in (gap.lost[0], *gap.lost[1])]
    low, high = around([0.0, *bounds], 0.05, 1.0)
    return Linear(low, high, EDGE, GAP_WIDTH - EDGE)


def gap_scale(axis: Linear) -> Markup:
    """Draw the axis' ticks, for the head of the column."""
    parts = []
    for tick in axis.ticks(5):
        if EDGE + 8 < axis(tick) < GAP_WIDTH - EDGE - 8:
            text = wording.points(tick / 100).removesuffix(".00")
            parts.append(element("text", text, x=axis(tick), y=12, text_anchor="middle", class_="tick"))
    return canvas(GAP_WIDTH, 16, "axis of the points lost", *parts, class_="strip")


def gap_strip(gap: Gap, axis: Linear, rank: int | None) -> Markup:
    """Draw one gap: its value, its 95 % interval, the zero line.

    Args:
        gap: with or without a value.
        axis: shared by all gaps.
        rank: of the platform, None for gaps in torch.
    """
    middle = GAP_HEIGHT / 2
    parts = [
        element("line", x1=axis(tick), x2=axis(tick), y1=0, y2=GAP_HEIGHT, class_="zero" if tick == 0 else "grid")
        for tick in axis.ticks(5)
    ]
    if gap.lost:
        value, (low, high) = gap.lost
        style = "torch" if rank is None else f"t{rank}"
        ends = {"x1": axis(100 * low), "x2": axis(100 * high)}
        parts.append(element("line", y1=middle, y2=middle, class_=f"bar {style}", **ends))
        parts.append(_gap_mark(100 * value, axis, 3 if rank is None else rank, style))
    label = f"{wording.points(gap.lost[0])} points" if gap.lost else gap.absent
    return canvas(GAP_WIDTH, GAP_HEIGHT, label, *parts, class_="strip")


def _gap_mark(value: float, axis: Linear, rank: int, style: str) -> Markup:
    middle = GAP_HEIGHT / 2
    if axis.low <= value <= axis.high:
        return mark(rank, axis(value), middle, f"mark {style}", radius=4.5)
    tip, back = (GAP_WIDTH, GAP_WIDTH - 9) if value > axis.high else (0.0, 9.0)
    corners = f"{tip:g},{middle:g} {back:g},{middle - 5:g} {back:g},{middle + 5:g}"
    return element("polygon", element("title", "beyond the axis"), points=corners, class_=f"arrow {style}")


def error_axis(samples: Sequence[NDArray[np.float64]]) -> Log | None:
    """Return the axis all histograms of a column share, in whole decades; None when there is nothing to draw."""
    values = np.concatenate([np.empty(0), *samples])
    if not values.size:
        return None
    positive = values[values > FLOOR]
    low = floor(log10(positive.min())) if positive.size else -7
    high = ceil(log10(positive.max())) if positive.size else -6
    return Log(10.0**low, 10.0 ** max(high, low + 1), EDGE, HISTOGRAM_WIDTH - EDGE)


def error_scale(axis: Log | None, label: str) -> Markup:
    """Draw a histogram column's ticks, every decade or every second one."""
    if axis is None:
        return Markup("")
    decades = range(round(log10(axis.low)), round(log10(axis.high)) + 1)
    step = 1 if len(decades) <= 6 else 2
    parts = []
    for power in decades[::step]:
        x = axis(10.0**power)
        anchor = "end" if x > HISTOGRAM_WIDTH - 12 else "middle"
        text = element("tspan", str(power).replace("-", wording.MINUS), dy="-4", font_size="8")
        parts.append(element("text", "10", text, x=x, y=14, text_anchor=anchor, class_="tick"))
    return canvas(HISTOGRAM_WIDTH, 18, label, *parts, class_="strip")


def histogram(sample: NDArray[np.float64], axis: Log | None, rank: int, label: str) -> Markup:
    """Draw the shares of utterances per quarter decade, and ticks at the median and the worst utterance.

    Args:
        sample: [n] values, none negative; values below the axis are counted in its first bin.
        axis: shared by the column.
        rank: of the platform.
        label: read out instead of the drawing.
    """
    if axis is None or not sample.size:
        return Markup("")
    low, high = round(log10(axis.low)), round(log10(axis.high))
    edges = np.linspace(low, high, (high - low) * BINS_PER_DECADE + 1)
    counts, _ = np.histogram(np.log10(np.clip(sample, axis.low, axis.high)), edges)
    x = Linear(low, high, axis.start, axis.end)
    parts = [element("line", x1=axis.start, x2=axis.end, y1=BASE, y2=BASE, class_="axis")]
    for index in np.flatnonzero(counts):
        left, right = x(float(edges[index])), x(float(edges[index + 1]))
        height = max(1.0, 26 * float(counts[index]) / float(counts.max()))
        parts.append(
            element("rect", x=left + 0.5, y=BASE - height, width=right - left - 1, height=height, class_=f"bin t{rank}")
        )
    for value, class_ in ((float(np.median(sample)), "median"), (float(sample.max()), "worst")):
        parts.append(element("line", x1=axis(value), x2=axis(value), y1=1, y2=BASE, class_=class_))
    return canvas(HISTOGRAM_WIDTH, HISTOGRAM_HEIGHT, label, *parts, class_="strip")
