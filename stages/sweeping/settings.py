"""conf/sweep: what a sweep searches for. No stage depends on it: an edit rebuilds nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, field_validator

from stages.core.params import Section, parse
from stages.measure.registry import REGISTRY
from stages.schema.device import Budget, Device, Preference
from stages.schema.variant import TargetName

# Becomes a directory and part of a git ref.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class Profile(Preference):
    """A device to recommend a variant for."""

    target: TargetName
    budgets: list[Budget]

    @property
    def device(self) -> str:
        """Name of the device of conf/device that it is, empty where conf/sweep says all of it."""
        return ""


class OfDevice(Profile):
    """A chosen device of conf/device, for one of its targets: the gate has judged every variant for it."""

    name: str

    @property
    def device(self) -> str:
        """Its name in conf/device."""
        return self.name


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
    profiles: dict[Name, SerializeAsAny[Profile]]
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


def read(tree: Any, devices: Any = None) -> Sweep:
    """Validate conf/sweep, as plain values, and add the chosen devices to those that it has itself.

    Args:
        tree: conf/sweep.
        devices: the chosen ones of conf/device: name → settings.

    Raises:
        ConfigError: names the first key that is wrong.
    """
    found = parse(Sweep, tree, "sweep")
    chosen = {name: parse(Device, settings, f"devices.{name}") for name, settings in (devices or {}).items()}
    return found.model_copy(update={"profiles": {**found.profiles, **dict(_profiles(chosen))}})


def _profiles(devices: Mapping[str, Device]) -> Iterator[tuple[str, OfDevice]]:
    """Yield one profile per device and target that it serves."""
    for name, device in devices.items():
        for target in device.targets:
            label = name if len(device.targets) == 1 else f"{name}, {target}"
            yield (
                label,
                OfDevice(
                    target=target,
                    budgets=device.budgets,
                    prefer=device.prefer,
                    tolerance=device.tolerance,
                    name=name,
                ),
            )
