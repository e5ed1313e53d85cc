"""What a metric is: unit, range, direction and sample.

A gate whose metric is a fraction and whose threshold is in percent can never fire; here it cannot be written. A number
that its metric cannot have is no measurement, whoever wrote it down.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal

Unit = Literal["fraction", "logit", "ratio", "cosine", "nat", "count", "ms", "byte", "token/s", "version"]
Better = Literal["higher", "lower"]
Split = Literal["probe", "test", "coverage", "calibration"]
Group = Literal["quality", "benchmark", "coverage", "parity"]
Interval = Literal["", "proportion", "paired", "derived", "quantile", "mean"]
When = Literal["always", "read", "executed", "timed", "asked"]

WHOLE: tuple[Unit, ...] = ("count", "byte", "version")
"""What is counted in whole numbers."""
RATE_ITEMS = 10
"""Fewest items of a rate: with fewer, its 95 % interval covers half of all possible rates."""


@dataclass(frozen=True)
class Sample:
    """What a metric is measured on.

    Attributes:
        items: what counts as one, in the plural.
        when: what must have happened for the metric to be there: `read` needs an artifact that is one and no runtime,
            `asked` is a matter of the precision, whose thresholds ask for it.
        splits: where the items come from, if they are texts.
    """

    items: str
    when: When
    splits: tuple[Split, ...] = ()


@dataclass(frozen=True)
class Metric:
    """What a number means.

    Attributes:
        name: flat key, unit included where there is one.
        unit: the only unit a threshold may be given in.
        better: which direction is an improvement.
        low: smallest possible value.
        high: largest possible value.
        meaning: one phrase for the report.
        sample: what it is measured on.
        interval: how its 95 % interval is computed (`statistics`), `derived` from others', empty where it has none.
        min_n: fewest items on which it says anything.
        positive: whether `low` itself is impossible: nothing takes no time and no bytes.
        group: what it tells of an artifact: how good its answers are, which each task says in metrics of its own; what
            it costs; what accelerators take of it; or how near it is to its reference.
    """

    name: str
    unit: Unit
    better: Better
    low: float
    high: float
    meaning: str
    sample: Sample
    interval: Interval = ""
    min_n: int = 1
    positive: bool = False
    group: Group = "parity"

    @property
    def is_rate(self) -> bool:
        """Whether it counts answers, so that its interval follows from how many there are."""
        return self.interval in ("proportion", "paired", "derived")

    def written(self, value: float) -> str:
        """Write a value, or a bound on it, for people: what is counted in full, in groups of three digits."""
        return f"{value:,.0f}" if self.unit in WHOLE and isfinite(value) else f"{value:.6g}"

    def check_threshold(self, unit: str, *, at_least: float | None, at_most: float | None, min_n: int) -> None:
        """Refuse a bound in another unit, in the wrong direction, on too few items, or one that can never fire.

        Raises:
            ValueError: says which.
        """
        bound = at_least if at_least is not None else at_most
        if min_n < self.min_n:
            raise ValueError(f"'{self.name}' says nothing on {min_n} items: min_n must be {self.min_n} or more")
        if unit != self.unit:
            raise ValueError(f"'{self.name}' is measured in '{self.unit}', its threshold in '{unit}'")
        if (at_least is not None) != (self.better == "higher"):
            needed = "at_least" if self.better == "higher" else "at_most"
            raise ValueError(f"'{self.name}' is better {self.better}: use {needed}")
        fires = bound is not None and (
            self.low < bound <= self.high if at_least is not None else self.low <= bound < self.high
        )
        if not fires:
            raise ValueError(f"{bound} on '{self.name}' can never fire: its range is {self.low:g} to {self.high:g}")

    def impossible(self, value: object) -> str:
        """Return why something cannot be a value of this metric, or an empty string."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{self.name} is {value!r}, which is no number"
        if not isfinite(value):
            return f"{self.name} is {value}, which is no finite number"
        if not self.low <= value <= self.high or (self.positive and value == self.low):
            above = ", the lower end excluded" if self.positive else ""
            return f"{self.name} is {value:g}; its range is {self.low:g} to {self.high:g}{above}"
        if self.unit in WHOLE and value != int(value):
            return f"{self.name} is {value:g}; it is counted in whole numbers"
        return ""
