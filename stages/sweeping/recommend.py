"""Choose one variant per device, and say why this one and why not the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.measure.registry import REGISTRY
from stages.sweeping.pareto import Point
from stages.sweeping.settings import Profile

QUALITY = "accuracy"


@dataclass(frozen=True)
class Recommendation:
    """What a device should get.

    Attributes:
        profile: the device.
        target: its platform.
        point: the variant, None where none will do.
        reason: one sentence.
        refused: reason → labels of the platform's variants that it kept out.
    """

    profile: str
    target: str
    point: Point | None
    reason: str
    refused: dict[str, list[str]]


def recommend(name: str, profile: Profile, points: Sequence[Point]) -> Recommendation:
    """Choose for one device.

    Args:
        name: of the device.
        profile: what it can afford and prefers.
        points: all variants of the sweep.

    Returns:
        Of the passing variants that keep every budget and whose accuracy lies within the profile's tolerance of the
        best of them, the one with the best preferred metric. A budget on a metric that was not measured is not kept.
    """
    mine = [point for point in points if point.target == profile.target]
    refused: dict[str, list[str]] = {}
    fits = []
    for point in mine:
        reason = refusal(point, profile)
        if reason:
            refused.setdefault(reason, []).append(point.label)
        else:
            fits.append(point)
    if not fits:
        why = f"none of {len(mine)} variants passes and keeps every budget" if mine else "no variant was built for it"
        return Recommendation(name, profile.target, None, why, refused)
    best = max(point.values[QUALITY] for point in fits)
    good = [point for point in fits if point.values[QUALITY] >= best - profile.tolerance]
    metric = REGISTRY[profile.prefer]
    sign = 1 if metric.better == "lower" else -1
    chosen = min(good, key=lambda point: (sign * point.values[metric.name], -point.values[QUALITY], point.label))
    word = "lowest" if sign == 1 else "highest"
    reason = (
        f"{word} {metric.name} of {len(good)} variants within {100 * profile.tolerance:g} points of the best accuracy "
        f"({100 * best:.2f} %), out of {len(fits)} that pass and keep every budget, of {len(mine)} tried"
    )
    return Recommendation(name, profile.target, chosen, reason, refused)


def refusal(point: Point, profile: Profile) -> str:
    """Return why a device cannot get a variant, or an empty string."""
    if point.verdict is None:
        return "screened out"
    if point.verdict != "pass":
        return f"verdict {point.verdict.replace('_', ' ')}"
    for budget in profile.budgets:
        if budget.metric not in point.values:
            return f"{budget.metric} was not measured"
        if budget.broken_by(point.values):
            bound = budget.at_most if budget.at_most is not None else budget.at_least
            return f"{budget.metric} {'>' if budget.at_most is not None else '<'} {bound:g} {budget.unit}"
    if QUALITY not in point.values or profile.prefer not in point.values:
        return f"{profile.prefer if QUALITY in point.values else QUALITY} was not measured"
    return ""


def recommend_all(profiles: Mapping[str, Profile], points: Sequence[Point]) -> list[Recommendation]:
    """Choose for every device."""
    return [recommend(name, profile, points) for name, profile in profiles.items()]
