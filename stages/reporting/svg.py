"""Elements, scales and marks of inline SVG; every text and attribute is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from markupsafe import Markup

Attribute = str | float | int


def element(tag: str, *children: str, **attributes: Attribute) -> Markup:
    """Build one element.

    Args:
        tag: its name.
        children: markup as it is, plain text escaped.
        attributes: `class_` becomes `class`, `stroke_width` becomes `stroke-width`; numbers are rounded to 0.1 px so
            that the bytes do not depend on the last bit of a float.
    """
    pairs = (Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), _text(v)) for name, v in attributes.items())
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), Markup("").join(pairs), Markup("").join(children))  # noqa: S704


def canvas(width: float, height: float, label: str, *children: str, class_: str = "") -> Markup:
    """Build an `<svg>` that scales with its box and is read out as `label`."""
    attributes: dict[str, Attribute] = {"viewBox": f"0 0 {_text(width)} {_text(height)}"}
    attributes |= {"width": width, "height": height, "role": "img", "aria-label": label, "class_": class_}
    return element("svg", *children, **attributes)


def mark(rank: int, x: float, y: float, class_: str, radius: float = 5, title: str = "") -> Markup:
    """Draw a platform's mark: circle, square, triangle or diamond, so that colour is never alone."""
    r = radius
    inside = [element("title", title)] if title else []
    shape = rank % 4
    if shape == 0:
        return element("circle", *inside, cx=x, cy=y, r=r, class_=class_)
    if shape == 1:
        return element("rect", *inside, x=x - 0.9 * r, y=y - 0.9 * r, width=1.8 * r, height=1.8 * r, class_=class_)
    corners = [(0, -1.15), (1.1, 0.85), (-1.1, 0.85)] if shape == 2 else [(0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)]
    points = " ".join(f"{_text(x + dx * r)},{_text(y + dy * r)}" for dx, dy in corners)
    return element("polygon", *inside, points=points, class_=class_)


@dataclass(frozen=True)
class Linear:
    """Map [low, high] to [start, end] pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value; values outside land on the edge."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def ticks(self, about: int = 8) -> list[float]:
        """Return round values inside the range, about as many as asked."""
        raw = (self.high - self.low) / about
        power = 10.0 ** floor(log10(raw))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
        first, last = ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9)
        return [round(index * step, 10) for index in range(first, last + 1)]


@dataclass(frozen=True)
class Log:
    """Map [low, high], both positive, to [start, end] pixels by magnitude."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value; values outside land on the edge."""
        return Linear(log10(self.low), log10(self.high), self.start, self.end)(log10(max(value, self.low)))

    def ticks(self) -> list[float]:
        """Return 1, 2 and 5 times powers of ten inside the range; powers alone where the range is wide."""
        wide = self.high / self.low > 200
        powers = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
        values = [factor * 10.0**power for power in powers for factor in ((1,) if wide else (1, 2, 5))]
        return [value for value in values if self.low <= value <= self.high]


def around(values: Sequence[float], share: float, least: float) -> tuple[float, float]:
    """Return the range of values, widened by a share of it on both sides and to at least `least`."""
    low, high = min(values), max(values)
    margin = max((high - low) * share, (least - (high - low)) / 2)
    return low - margin, high + margin


@dataclass(frozen=True)
class Frame:
    """A plot's canvas, and where on it the axes lie, in pixels."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float

    def scales(self, costs: Sequence[float], ends: tuple[float, float], room: float, most: float) -> tuple[Log, Linear]:
        """Map costs, with `room` times the largest for what stands beside it, and a range that ends at `most`."""
        y = Linear(max(ends[0], 0), min(ends[1], most), self.bottom, self.top)
        return Log(min(costs) / 1.25, max(costs) * room, self.left, self.right), y

    def axes(self, x: Linear | Log, y: Linear, below: str) -> list[Markup]:
        """Draw ticks, lines and the name below."""
        left, right, bottom, parts = self.left, self.right, self.bottom, []
        for tick in y.ticks(6):
            parts.append(element("line", x1=left, x2=right, y1=y(tick), y2=y(tick), class_="grid"))
            parts.append(element("text", f"{tick:g}", x=left - 7, y=y(tick) + 4, text_anchor="end", class_="tick"))
        for tick in x.ticks():
            parts.append(element("line", x1=x(tick), x2=x(tick), y1=bottom, y2=bottom + 4, class_="axis"))
            parts.append(element("text", f"{tick:g}", x=x(tick), y=bottom + 18, text_anchor="middle", class_="tick"))
        parts.append(element("line", x1=left, x2=right, y1=bottom, y2=bottom, class_="axis"))
        middle = (left + right) / 2
        return [*parts, element("text", below, x=middle, y=bottom + 40, text_anchor="middle", class_="name")]

    def plot(self, label: str, *parts: str) -> Markup:
        """Build the `<svg>`, read out as `label`."""
        return canvas(self.width, self.height, label, *parts, class_="plot")


def _text(value: Attribute) -> str:
    return f"{round(value, 1):g}" if isinstance(value, float) else str(value)
