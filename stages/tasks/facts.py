"""What is known of a task without any of its parts: the surface of its package's `__init__`, and how to find it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

from stages.core import artifact
from stages.measure.registry import REGISTRY
from stages.tasks import folder
from stages.tasks.base import Primary


class Facts(Protocol):
    """A task's package.

    Attributes:
        PRIMARY: how good its models are.
        LATENCIES: kind of call that is timed → how its metrics begin; releases are compared by the first.
        SPEEDS: further metrics of a benchmark → kind of call that is timed for it, '' where none is.
        ITEM: what one answer is to, as the report says it.
        DEMO: what the page of `make demo` does with what one types, empty where it has none.
    """

    PRIMARY: Primary
    LATENCIES: Mapping[str, str]
    SPEEDS: Mapping[str, str]
    ITEM: str
    DEMO: str


def facts(task: str) -> Facts:
    """Import a task's package, and none of its parts."""
    return cast(Facts, importlib.import_module(f"stages.tasks.{folder(task)}"))


def shown(metric: str) -> tuple[float, str]:
    """Return what a reader sees of a metric: by what it is multiplied, and the unit: 100 and % of a fraction."""
    return (100.0, "%") if REGISTRY[metric].unit == "fraction" else (1.0, "")


def of_data(data: Path) -> str:
    """Return the task that a data set was prepared for.

    Args:
        data: output of `prepare`.
    """
    return str(artifact.manifest(data)["params"]["task"]["name"])
