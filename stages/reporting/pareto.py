"""The Pareto front: passing variants that no other passing one beats in every goal.

A variant without a passing verdict is never on it, however fast it is: what it computes quickly is not what the
reference computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from stages.measure.registry import REGISTRY

Vector = tuple[float, ...]


class Judged(Protocol):
    """What was measured of a variant, and what the gate says of it."""

    @property
    def verdict(self) -> str | None:
        """The gate's."""

    @property
    def values(self) -> dict[str, float]:
        """Metric → number, only what was measured."""


V = TypeVar("V", bound=Judged)


def eligible(variants: Sequence[V], goals: Sequence[str]) -> list[V]:
    """Return the passing variants that have all goals."""
    return [one for one in variants if one.verdict == "pass" and all(goal in one.values for goal in goals)]


def costs(variant: Judged, goals: Sequence[str]) -> Vector:
    """Return a variant's goals, each turned so that lower is better."""
    return tuple(variant.values[goal] * (1 if REGISTRY[goal].better == "lower" else -1) for goal in goals)


def dominates(one: Vector, other: Vector) -> bool:
    """Whether `one` is nowhere worse and somewhere better."""
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def front(variants: Sequence[V], goals: Sequence[str]) -> list[V]:
    """Select the variants of one platform that no passing one dominates.

    Args:
        variants: the platform's.
        goals: metrics, those measured on this platform.

    Returns:
        By the first goal, best first. Variants with equal goals are all kept, as they came.
    """
    found = [(costs(one, goals), one) for one in eligible(variants, goals)]
    best = [(cost, one) for cost, one in found if not any(dominates(other, cost) for other, _ in found)]
    return [one for _, one in sorted(best, key=lambda pair: pair[0])]
