"""Judge a variant for the devices that were chosen: by what accelerator each would run it, and what it cannot afford.

What no device can use is no pass, however good its answers are. Nothing here was run on a device: shares and parts are
what `coverage` tells, bytes are the artifact's own.
"""

from __future__ import annotations

from collections.abc import Mapping

from stages.schema.covered import Coverage, Taken
from stages.schema.device import Asked, Budget, Device, Serves
from stages.schema.verdict import Fit


def fits(devices: Mapping[str, Device], target: str, covered: Coverage, values: Mapping[str, float]) -> dict[str, Fit]:
    """Judge a variant for each device that its target serves: device → what is said of it there.

    Args:
        devices: the chosen ones.
        target: of the variant.
        covered: what accelerators take of it.
        values: metric → number, what was measured of it.
    """
    return {name: _fit(device, device.targets[target], covered, values) for name, device in devices.items()
            if target in device.targets}  # fmt: skip


def unfit(found: Mapping[str, Fit]) -> list[str]:
    """Return why no device can have a variant; nothing where one can, or none was asked."""
    if not found or any(not fit["reasons"] for fit in found.values()):
        return []
    said = "; ".join(f"{name}: {', '.join(fit['reasons'])}" for name, fit in found.items())
    return [f"it fits none of the devices chosen for it ({said})"]


def unserved(devices: Mapping[str, Device], target: str) -> list[str]:
    """Say that no chosen device takes artifacts of a target, where some were chosen."""
    if not devices or any(target in device.targets for device in devices.values()):
        return []
    return [f"judged for no device: none of {', '.join(devices)} runs {target}"]


def _fit(device: Device, serves: Serves, covered: Coverage, values: Mapping[str, float]) -> Fit:
    found: Fit = {
        "accelerator": "",
        "beside": [],
        "clients": list(serves.clients),
        "macs": 0.0,
        "partitions": 0,
        "reasons": [reason for budget in device.budgets if (reason := _broken(budget, values))],
        "title": device.title,
    }
    if covered["status"] != "measured":
        return {**found, "reasons": [f"what accelerators take is not known: {covered['reason']}", *found["reasons"]]}
    refused = []
    for asked in serves.accelerators:
        taken = covered["accelerators"].get(asked.name)
        reason = f"coverage tells nothing of {asked.name}" if taken is None else _short(asked, taken)
        if taken is not None and not reason:
            ran = {"accelerator": asked.name, "macs": taken["sure_macs"], "partitions": taken["partitions"]}
            return {**found, **ran, "beside": refused}  # type: ignore[typeddict-item]
        refused.append(reason)
    return {**found, "reasons": [*refused, *found["reasons"]]}


def _broken(budget: Budget, values: Mapping[str, float]) -> str:
    return budget.broken_by(values) if budget.metric in values else f"{budget.metric} was not measured"


def _short(asked: Asked, taken: Taken) -> str:
    """Return how much too little an accelerator takes, and the operator behind it; empty where it is enough."""
    said = []
    for word, share, least in (
        ("multiply-accumulates", taken["sure_macs"], asked.macs),
        ("operators", taken["sure_operators"], asked.operators),
    ):
        if share < least:
            said.append(f"{100 * share:.3g} % of {word}, {100 * least:.3g} % asked")
    if asked.parts is not None and taken["partitions"] > asked.parts:
        said.append(f"{taken['partitions']} parts, {asked.parts} at most")
    if not said:
        return ""
    worst = taken["refused"][0] if taken["refused"] else None
    why = f" ({worst['operator']}: {worst['reason']})" if worst else ""
    return f"{asked.name} takes {' and '.join(said)}{why}"
