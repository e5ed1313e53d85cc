"""conf/sweep: what a sweep searches for. No stage depends on it: an edit rebuilds nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from stages.core.params import Section, parse
from stages.measure.registry import REGISTRY
from stages.schema.variant import TargetName

# Becomes a directory and part of a git ref.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class Budget(Section):
    """A bound that a device puts on one registered metric, in the metric's own unit."""

    metric: str
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _agrees_with_metric(self) -> Budget:
        if self.metric not in REGISTRY:
            raise ValueError(f"'{self.metric}' is no metric; one of: {', '.join(sorted(REGISTRY))}")
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"the budget on '{self.metric}' needs either at_least or at_most")
        metric = REGISTRY[self.metric]
        # Enough items is the gate's business: only what passed it is ever recommended.
        metric.check_threshold(self.unit, at_least=self.at_least, at_most=self.at_most, min_n=metric.min_n)
        return self

    def broken_by(self, values: Mapping[str, float]) -> str:
        """Return how measured values break the budget, or an empty string; what was not measured breaks nothing."""
        value = values.get(self.metric)
        if value is None:
            return ""
        if self.at_least is not None and not value >= self.at_least:
            return f"{self.metric} {value:.4g} < {self.at_least:g} {self.unit}"
        if self.at_most is not None and not value <= self.at_most:
            return f"{self.metric} {value:.4g} > {self.at_most:g} {self.unit}"
        return ""


class Profile(Section):
    """A device to recommend a variant for."""

    target: TargetName
    budgets: list[Budget]
    prefer: str
    """Among variants as good as the best, the metric that decides."""
    tolerance: Annotated[float, Field(ge=0, lt=1)]
    """How far from the best of those within budget still counts as as good, in the task's own metric."""

    @field_validator("prefer")
    @classmethod
    def _is_a_metric(cls, name: str) -> str:
        if name not in REGISTRY:
            raise ValueError(f"'{name}' is no metric; one of: {', '.join(sorted(REGISTRY))}")
        return name


class Search(Section):
    """How Optuna searches: `hydra/sweeper=tinsmith`."""

    sampler: Literal["tpe", "nsga2"]
    trials: Annotated[int, Field(ge=1)]
    """In all, over every start of the sweep."""
    batch: Annotated[int, Field(ge=1)]
    """Trials asked for at once; no more than the launcher runs at a time learn from each other late."""
    seed: int


class Sweep(Section):
    """All of conf/sweep."""

    name: Name
    goals: Annotated[list[str], Field(min_length=1)]
    profiles: dict[Name, Profile]
    screen: bool
    """Whether a job stops as soon as no profile can use any of its variants."""
    retry_failed: bool
    track: bool
    """Whether finished jobs are published to MLflow."""
    remote: str | None
    """DVC remote that is asked for what this host's cache lacks, and given what was computed here."""
    search: Search

    @field_validator("goals")
    @classmethod
    def _are_metrics(cls, names: list[str]) -> list[str]:
        unknown = [name for name in names if name not in REGISTRY]
        if unknown:
            raise ValueError(f"no such metric: {', '.join(unknown)}; choose from {', '.join(sorted(REGISTRY))}")
        return names


def read(tree: Any) -> Sweep:
    """Validate conf/sweep, as plain values.

    Raises:
        ConfigError: names the first key that is wrong.
    """
    return parse(Sweep, tree, "sweep")
