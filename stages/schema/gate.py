"""conf/gate and conf/benchmark: what is measured how, and what is good enough."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import Field, model_validator

from stages.core.params import Section
from stages.measure.metric import Metric, Split
from stages.measure.registry import REGISTRY
from stages.measure.statistics import difference_interval, proportion_interval
from stages.schema.variant import TargetName

Count = Annotated[int, Field(ge=1)]
Drop = Annotated[float, Field(ge=0, lt=1)]
Ratio = Annotated[float, Field(ge=1)]

REFERENCE_METRICS = (
    *(
        name
        for name, metric in REGISTRY.items()
        if metric.group == "quality" and metric.interval not in ("paired", "derived")
    ),
    "non_finite_count",
)
"""What is known of a model by itself."""


class Threshold(Section):
    """A bound on one registered metric; its unit must be the metric's own."""

    metric: str
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    min_n: Count
    """Fewest items the metric must have been measured on; texts where a text has several, since these tell little more
    than one of them: 10,000 tokens of 12 texts are 12 opinions."""

    @model_validator(mode="after")
    def _agrees_with_metric(self) -> Threshold:
        metric = REGISTRY.get(self.metric)
        if metric is None:
            raise ValueError(f"metric '{self.metric}' is not one of: {', '.join(sorted(REGISTRY))}")
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"threshold on '{self.metric}' needs exactly one of at_least, at_most")
        metric.check_threshold(self.unit, at_least=self.at_least, at_most=self.at_most, min_n=self.min_n)
        return self

    def holds(self, value: float) -> bool:
        """Tell whether a number lies within the bound; NaN does not."""
        return value >= self.at_least if self.at_least is not None else value <= (self.at_most or 0)


class Baseline(Section):
    """A released build that no variant may fall behind, and by how much it may."""

    bundles: Annotated[str, Field(min_length=1)]
    """Directory of bundles: `build/release` of that build."""
    size_ratio: Ratio
    accuracy_drop: Drop
    agreement_drop: Drop
    latency_ratio: Ratio


class Gate(Section):
    """Thresholds: a floor for the reference itself, what every artifact must meet, and one list per precision."""

    interval_below_n: Count
    """Rates seen on fewer items are judged at the unfavourable end of their interval."""
    reference: Annotated[list[Threshold], Field(min_length=1)]
    every: Annotated[list[Threshold], Field(min_length=1)]
    """Of every artifact, whatever its precision."""
    precisions: dict[str, Annotated[list[Threshold], Field(min_length=1)]]
    targets: dict[TargetName, Annotated[list[Threshold], Field(min_length=1)]]
    """Of every artifact of a target: what an accelerator of its phones has to take, above all."""
    baseline: Baseline | None

    def bounds(self, precision: str, target: TargetName | None = None) -> list[Threshold]:
        """Return all that an artifact of this precision has to meet; without a target, what its answers have to."""
        return [*self.every, *self.precisions[precision], *(self.targets.get(target, []) if target else [])]

    def applied(self, precision: str, target: TargetName | None = None) -> dict[str, Any]:
        """Return everything that a verdict on an artifact of this precision is judged by, as `verdicts.json` has it."""
        asked = {"reference": self.reference, "variant": self.bounds(precision, target)}
        return {name: [bound.model_dump(mode="json") for bound in bounds] for name, bounds in asked.items()} | {
            # Not where its bundles lie, which is another place in another clone.
            "baseline": self.baseline.model_dump(mode="json", exclude={"bundles"}) if self.baseline else None,
            "interval_below_n": self.interval_below_n,
        }

    @model_validator(mode="after")
    def _reference_is_judged_by_what_it_has(self) -> Gate:
        for threshold in self.reference:
            if threshold.metric not in REFERENCE_METRICS:
                raise ValueError(f"a reference has no '{threshold.metric}', only {', '.join(REFERENCE_METRICS)}")
        return self


class Benchmark(Section):
    """How latency is measured on this host."""

    threads: Count
    warmup: Count
    repetitions: Annotated[int, Field(ge=10)]
    utterances: Count
    """Probe utterances timed at their true token length, round robin."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)]


class Need(NamedTuple):
    """What a build must measure on before anything can pass.

    Attributes:
        n: fewest items.
        metric: whose threshold asks for the most.
        splits: where its items come from.
    """

    n: int
    metric: Metric
    splits: tuple[Split, ...]


def needed_items(threshold: Threshold, small: int) -> int:
    """Return the fewest items on which a threshold can be met, by the best answers there are.

    Below `small` items a rate is judged at the unfavourable end of its interval, which stays below 1 even where every
    answer is right: 600 of 600 prove no more than 99.4 %.

    Args:
        threshold: the bound.
        small: `interval_below_n`.

    Returns:
        `min_n`, or more where the interval of a perfect rate asks for it.
    """
    kind = REGISTRY[threshold.metric].interval

    def reachable(n: int) -> bool:
        # Perfect: all right, and nothing lost against the other model.
        end = proportion_interval(n, n)[0] if kind == "proportion" else difference_interval(0, 0, n)[1]
        return threshold.holds(end)

    perfect = {"proportion": 1.0, "paired": 0.0}.get(kind)
    if perfect is None or not threshold.holds(perfect) or threshold.min_n >= small:
        return threshold.min_n
    return threshold.min_n + bisect_left(range(threshold.min_n, small), True, key=reachable)


def needed_texts(gate: Gate, precisions: Iterable[str]) -> list[Need]:
    """Return how many texts of which splits variants of these precisions are judged on at least, one need per splits.

    Args:
        gate: the thresholds.
        precisions: keys of `gate.precisions`.
    """
    thresholds = [*gate.reference, *(each for name in precisions for each in gate.bounds(name))]
    found: dict[tuple[Split, ...], Need] = {}
    for threshold in thresholds:
        metric = REGISTRY[threshold.metric]
        need = Need(needed_items(threshold, gate.interval_below_n), metric, metric.sample.splits)
        if need.splits and need.n > found.get(need.splits, need._replace(n=0)).n:
            found[need.splits] = need
    return list(found.values())


def shortages(gate: Gate, precisions: Iterable[str], sizes: Mapping[Split, int]) -> list[str]:
    """Say which splits are too small for anything to pass, and what would do.

    Args:
        gate: the thresholds.
        precisions: those of the chosen variants.
        sizes: texts by split; where a split is not among them nothing is said of it.
    """
    return [
        f"{need.metric.name} is measured on {sum(sizes[split] for split in need.splits):,} {need.metric.sample.items}, "
        f"and nothing can pass on fewer than {need.n:,}"
        for need in needed_texts(gate, precisions)
        if set(need.splits) <= set(sizes) and sum(sizes[split] for split in need.splits) < need.n
    ]
