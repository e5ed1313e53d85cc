"""conf/device: what a device has, and what an artifact has to be for it. The gate reads it, and makes no artifact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from stages.core.params import Section
from stages.measure.registry import ACCELERATORS, PROCESS, REGISTRY, RUNS
from stages.schema.clients import ClientName
from stages.schema.variant import TargetName

# Measured on the host that builds, which is no device of anybody's.
OF_THE_HOST = (PROCESS, RUNS)
Share = Annotated[float, Field(ge=0, le=1)]
NotHere = Literal["core-ml", "mediapipe-android"]
"""Clients that run on devices alone: what they answer is not measured."""


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
        written = REGISTRY[self.metric].written
        unit = "" if self.unit == "version" else f" {self.unit}"
        if self.at_least is not None and not value >= self.at_least:
            return f"{self.metric} {written(value)} < {written(self.at_least)}{unit}"
        if self.at_most is not None and not value <= self.at_most:
            return f"{self.metric} {written(value)} > {written(self.at_most)}{unit}"
        return ""


class Asked(Section):
    """An accelerator of a device, and what it has to take of an artifact to be worth handing it out."""

    name: str
    macs: Share
    """Least share of multiply-accumulates, doubtful ones left out."""
    operators: Share
    """Least share of operators, doubtful ones left out: 1 where nothing executes what it refuses."""
    parts: Annotated[int, Field(ge=1)] | None
    """Most parts of the graph; null: any number."""

    @field_validator("name")
    @classmethod
    def _is_an_accelerator(cls, name: str) -> str:
        if name not in ACCELERATORS:
            raise ValueError(f"'{name}' is no accelerator; one of: {', '.join(ACCELERATORS)}")
        return name


class Serves(Section):
    """How a device runs artifacts of one target."""

    accelerators: Annotated[list[Asked], Field(min_length=1)]
    """The one to be preferred first: an artifact goes to the first that takes enough of it, and fits none otherwise."""
    clients: list[ClientName | NotHere]
    """Clients of apps that run it there: the report shows what they answered (`make clients`)."""


class Preference(Section):
    """Which of several variants a sweep recommends."""

    prefer: str
    """Of variants as good as the best, the metric that decides."""
    tolerance: Annotated[float, Field(ge=0, lt=1)] | None
    """How far from the best of those within budget still counts as as good, in the task's own metric; None: whatever
    keeps the budgets does."""

    @field_validator("prefer")
    @classmethod
    def _is_a_metric(cls, name: str) -> str:
        if name not in REGISTRY:
            raise ValueError(f"'{name}' is no metric; one of: {', '.join(sorted(REGISTRY))}")
        return name


class Device(Preference):
    """A kind of device that variants are judged for."""

    title: Annotated[str, Field(min_length=1)]
    """What it is, for readers."""
    targets: Annotated[dict[TargetName, Serves], Field(min_length=1)]
    budgets: list[Budget]
    """Of every artifact on it. What this host alone measures, time and memory of a process, is no device's."""

    @field_validator("budgets")
    @classmethod
    def _is_known_of_the_device(cls, budgets: list[Budget]) -> list[Budget]:
        for budget in budgets:
            if REGISTRY[budget.metric].sample in OF_THE_HOST:
                raise ValueError(
                    f"'{budget.metric}' is measured on the host that builds and says nothing of a device: "
                    "bound size_bytes, activation_bytes, or how good the answers are"
                )
        return budgets
