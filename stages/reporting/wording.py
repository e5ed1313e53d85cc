"""How numbers are written."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from stages.measure.registry import REGISTRY

MINUS = "\N{MINUS SIGN}"


def magnitude(value: float) -> str:
    """Write a positive number with three significant digits and no exponent: 0.0123, 4.56, 1,234."""
    if value == 0:
        return "0"
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    if value >= 1:
        return f"{value:.2f}"
    return f"{value:.3f}" if value >= 0.01 else f"{value:.1g}" if value >= 0.001 else scientific(value)


def scientific(value: float) -> str:
    """Write an error that may be of any magnitude: 0, 0.012, 3.4×10⁻⁷."""
    if value == 0:
        return "0"
    if 0.001 <= value < 1000:
        return f"{value:.2g}"
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits}×10{str(int(power)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def percent(fraction: float, digits: int = 2) -> str:
    """Write a fraction in percent, without the sign."""
    return f"{100 * fraction:.{digits}f}".replace("-", MINUS)


def points(fraction: float) -> str:
    """Write a difference of fractions in percentage points, signed; zero has no sign."""
    text = f"{100 * fraction:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", MINUS)


def figure(value: float, metric: str, digits: int = 2) -> str:
    """Write a metric as tables have it: fractions in percent, bytes in MB."""
    kind = REGISTRY[metric].unit
    return percent(value, digits) if kind == "fraction" else magnitude(value * 1e-6 if kind == "byte" else value)


def unit(metric: str) -> str:
    """Return the unit that `figure` writes a metric in."""
    kind = REGISTRY[metric].unit
    return {"fraction": "%", "byte": "MB", "ratio": ""}.get(kind, kind)


def measure(value: float, metric: str, digits: int = 2) -> str:
    """Write a metric with its unit."""
    return f"{figure(value, metric, digits)} {unit(metric)}".strip()


def change(value: float, metric: str) -> str:
    """Write by how much a metric differs, signed: fractions in percentage points."""
    return points(value) if REGISTRY[metric].unit == "fraction" else f"{value:+.3g}".replace("-", MINUS)


def bracket(bounds: Sequence[str]) -> str:
    """Write an interval."""
    return f"[{bounds[0]}, {bounds[1]}]"


def scaled(count: float) -> str:
    """Write a count of weights or operations: 17.4 k, 1.07 M, 2.3 G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{magnitude(count / size)} {unit}"
    return f"{count:g}"


def code(text: str) -> Markup:
    """Write what stands between backticks as code."""
    parts = [escape(part) for part in text.split("`")]
    return Markup("").join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))
