"""conf/gate and conf/benchmark: what is measured how, and what is good enough."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from stages.core.params import Section
from stages.measure import metrics

Count = Annotated[int, Field(ge=1)]
Drop = Annotated[float, Field(ge=0, lt=1)]
Ratio = Annotated[float, Field(ge=1)]

REFERENCE_METRICS = ("accuracy", "non_finite_count")


class Threshold(Section):
    """A bound on one registered metric; its unit must be the metric's own."""

    metric: str
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    min_n: Count
    """Fewest items the metric must have been measured on."""

    @model_validator(mode="after")
    def _agrees_with_metric(self) -> Threshold:
        metric = metrics.REGISTRY.get(self.metric)
        if metric is None:
            raise ValueError(f"metric '{self.metric}' is not one of: {', '.join(sorted(metrics.REGISTRY))}")
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"threshold on '{self.metric}' needs exactly one of at_least, at_most")
        metric.check_threshold(self.unit, at_least=self.at_least, at_most=self.at_most, min_n=self.min_n)
        return self


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
    baseline: Baseline | None

    def applied(self, precision: str) -> dict[str, Any]:
        """Return everything that a verdict on an artifact of this precision is judged by, as `verdicts.json` has it."""
        asked = {"reference": self.reference, "variant": [*self.every, *self.precisions[precision]]}
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
