"""Choose one variant per device, and say why this one and why not the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.measure.registry import REGISTRY
from stages.reporting.pareto import costs
from stages.sweeping.pareto import Point
from stages.sweeping.settings import Profile
from stages.tasks.base import Primary
from stages.tasks.facts import shown


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


def recommend(name: str, profile: Profile, points: Sequence[Point], primary: Primary) -> Recommendation:
    """Choose for one device.

    Args:
        name: of the device.
        profile: what it can afford and prefers.
        points: all variants of the sweep.
        primary: how good they are.

    Returns:
        Of the passing variants that keep every budget and whose quality lies within the profile's tolerance of the
        best of them, where it has one, the one with the best preferred metric. A budget on a metric that was not
        measured is not kept.
    """
    mine = [point for point in points if point.target == profile.target]
    refused: dict[str, list[str]] = {}
    fits = []
    for point in mine:
        reason = refusal(point, profile, primary.metric)
        if reason:
            refused.setdefault(reason, []).append(point.label)
        else:
            fits.append(point)
    if not fits:
        why = f"none of {len(mine)} variants passes and keeps every budget" if mine else "no variant was built for it"
        return Recommendation(name, profile.target, None, why, refused)
    best = min(_cost(point, primary.metric) for point in fits)
    word = "lowest" if REGISTRY[profile.prefer].better == "lower" else "highest"
    if profile.tolerance is None:
        chosen = min(fits, key=lambda one: (_cost(one, profile.prefer), one.label))
        why = f"{word} {profile.prefer} of {len(fits)} that pass and keep every budget, of {len(mine)} tried"
        return Recommendation(name, profile.target, chosen, why, refused)
    good = [point for point in fits if _cost(point, primary.metric) <= best + profile.tolerance]
    chosen = min(good, key=lambda one: (_cost(one, profile.prefer), _cost(one, primary.metric), one.label))
    factor, unit = shown(primary.metric)
    apart = f"{factor * profile.tolerance:g}{' points' if unit else ''}"
    reason = (
        f"{word} {profile.prefer} of {len(good)} variants within {apart} of the best {primary.said} "
        f"({f'{factor * abs(best):.2f} {unit}'.strip()}), out of {len(fits)} that pass and keep every budget, of "
        f"{len(mine)} tried"
    )
    return Recommendation(name, profile.target, chosen, reason, refused)


def _cost(point: Point, metric: str) -> float:
    return costs(point, [metric])[0]


def refusal(point: Point, profile: Profile, quality: str) -> str:
    """Return why a device cannot get a variant, or an empty string."""
    if point.verdict is None:
        return "screened out"
    if profile.device:  # before the verdict, which fails for this where no other device can have it
        if profile.device not in point.devices:
            return "was not judged for it"
        if reasons := point.devices[profile.device]:
            return reasons[0]
    if point.verdict != "pass":
        return f"verdict {point.verdict.replace('_', ' ')}"
    for budget in [] if profile.device else profile.budgets:  # of a device the gate has judged them
        if budget.metric not in point.values:
            return f"{budget.metric} was not measured"
        if budget.broken_by(point.values):
            bound = budget.at_most if budget.at_most is not None else budget.at_least
            return f"{budget.metric} {'>' if budget.at_most is not None else '<'} {bound:g} {budget.unit}"
    if quality not in point.values or profile.prefer not in point.values:
        return f"{profile.prefer if quality in point.values else quality} was not measured"
    return ""


def recommend_all(profiles: Mapping[str, Profile], points: Sequence[Point], primary: Primary) -> list[Recommendation]:
    """Choose for every device."""
    return [recommend(name, profile, points, primary) for name, profile in profiles.items()]
