"""Judge one variant's measurements against thresholds; anything not known to be good is not a pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stages.measure import metrics
from stages.schema.gate import Gate, Threshold

# Extremes are taken over the probe and the test split; rates and means come from the larger, the test split.
EXTREMES = ("max_abs_error", "relative_max_error", "cosine_similarity_min", "kl_divergence_max", "non_finite_count")


@dataclass(frozen=True)
class Measurement:
    """Everything measured of one variant, flat.

    Attributes:
        status: parity's `measured`, `not_measured` or `failed`.
        reason: why it is not `measured`.
        altered: differences between the artifact and its manifest.
        values: metric → number, for metrics that were measured.
        intervals: metric → 95 % interval, for rates and quantiles.
        same_host: whether the benchmark was taken on this host.
        runtime: what executed the artifact.
        timing: why there is no latency, or empty.
        timing_failed: whether that is because the artifact broke while it was timed.
        details: metric → what and where, for the reason why its threshold is missed.
    """

    status: str
    reason: str
    altered: list[str]
    values: dict[str, float]
    intervals: dict[str, list[float]]
    same_host: bool = True
    runtime: str | None = None
    timing: str = ""
    timing_failed: bool = False
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Verdict:
    """What the gate says of one variant."""

    verdict: str
    reasons: list[str] = field(default_factory=list)


def flatten(parity: Mapping[str, Any], benchmark: Mapping[str, Any], host: Mapping[str, Any]) -> Measurement:
    """Merge a variant's parity and benchmark into one flat set of metrics.

    Args:
        parity: `metrics.json` of parity.
        benchmark: `metrics.json` of benchmark.
        host: fingerprint of this host.
    """
    values: dict[str, float] = {}
    for part in ("audit", "structure", "conversion", "form", "calibration", "activations"):
        values |= parity.get(part, {}).get("values", {})
    intervals: dict[str, list[float]] = {}
    if parity["status"] == "measured":
        probe, test = parity["probe"]["values"], parity["test"]["values"]
        values |= test
        for name in EXTREMES:
            if name in test and name in probe:
                worst = max if metrics.REGISTRY[name].better == "lower" else min
                values[name] = worst(test[name], probe[name])
        # Any split alone proves the artifact broken.
        values["non_finite_count"] = sum(
            parity[split]["values"]["non_finite_count"] for split in ("probe", "test", "coverage")
        )
        intervals |= parity["test"]["intervals"]
    values |= {key: value for key, value in benchmark["values"].items() if key != "n"}
    intervals |= benchmark["intervals"]
    return Measurement(
        status=parity["status"],
        reason=parity.get("reason", ""),
        altered=parity["altered"],
        values=values,
        intervals=intervals,
        same_host=benchmark["host"] == host,
        runtime=parity["runtime"],
        timing=benchmark.get("reason", ""),
        timing_failed=benchmark["status"] == "failed",
        details=_details(parity),
    )


def _details(parity: Mapping[str, Any]) -> dict[str, str]:
    """Name the weight, operator or form behind a metric, worst first."""
    audit = parity.get("audit", {})
    weights = audit.get("weights", {})
    forms = parity.get("form", {}).get("forms", {})
    structure = parity.get("structure", {"beyond": [], "differences": []})
    found = {
        "activations_beyond_count": "; ".join(parity.get("activations", {}).get("misfits", [])[:2]),
        "conversion_weight_error_max": audit.get("converted", ""),
        "form_relative_error": max(forms, key=lambda form: forms[form], default=""),
        "structure_difference_count": "; ".join(structure["differences"][:2]),
        "weight_cosine_min": min(weights, key=lambda name: (weights[name], name), default=""),
        "weights_beyond_count": "; ".join(structure["beyond"][:2]),
    }
    return {metric: detail for metric, detail in found.items() if detail}


def judge_threshold(threshold: Threshold, values: Mapping[str, float], intervals: Mapping[str, Any], small: int) -> str:
    """Return why a threshold is not met, or an empty string.

    Args:
        threshold: the bound.
        values: measured metrics, `n` among them.
        intervals: 95 % intervals of rates.
        small: below this many items the interval's unfavourable end is judged.
    """
    name, n = threshold.metric, values.get("n", 0)
    if name not in values:
        return f"{name} was not measured"
    if n < threshold.min_n:
        return f"{name} was measured on {n:g} items, at least {threshold.min_n} are needed"
    value, judged = values[name], "value"
    if n < small and name in intervals:
        value = intervals[name][0 if threshold.at_least is not None else 1]
        judged = f"95 % bound (n = {n:g})"
    if threshold.at_least is not None and not value >= threshold.at_least:
        return f"{name} {judged} {value:.6g} < {threshold.at_least:g} {threshold.unit}"
    if threshold.at_most is not None and not value <= threshold.at_most:
        return f"{name} {judged} {value:.6g} > {threshold.at_most:g} {threshold.unit}"
    return ""


def judge(measured: Measurement, thresholds: Sequence[Threshold], small: int, floor: Sequence[str]) -> Verdict:
    """Judge one variant; anything not known to be good is not a pass.

    Args:
        measured: the variant's measurements.
        thresholds: those of its precision.
        small: below this many items intervals are judged instead of values.
        floor: why its reference is broken, empty when it is sound.
    """
    reasons = [f"artifact differs from its manifest: {problem}" for problem in measured.altered]
    reasons += list(floor)
    if measured.status == "not_measured":
        # What needs no runtime is known all the same, and may be enough to refuse it.
        reasons += _misses(measured, [item for item in thresholds if item.metric in measured.values], small)
        return Verdict("fail" if reasons else "not_measured", [*reasons, measured.reason])
    if measured.status != "measured":
        return Verdict("fail", [*reasons, measured.reason])
    counted = any(threshold.metric == "non_finite_count" for threshold in thresholds)
    if not counted and measured.values.get("non_finite_count") != 0:
        # Whatever conf/gate asks for: a threshold that nobody wrote must not let a NaN through.
        reasons.append(f"{measured.values.get('non_finite_count', 'unknown')} outputs are NaN or infinite")
    if measured.timing_failed:
        reasons.append(f"benchmark: {measured.timing}")
    if not measured.same_host:
        reasons.append("benchmark was taken on another host; run `dvc repro` here")
    reasons += _misses(measured, thresholds, small)
    return Verdict("fail" if reasons else "pass", reasons)


def _misses(measured: Measurement, thresholds: Sequence[Threshold], small: int) -> list[str]:
    """Return why thresholds are not met; of a lost weight or a changed operator, which one it is."""
    found = []
    for threshold in thresholds:
        reason = judge_threshold(threshold, measured.values, measured.intervals, small)
        if reason and threshold.metric in measured.details:
            reason += f" ({measured.details[threshold.metric]})"
        found += [reason] if reason else []
    return found


def judge_reference(gate: Gate, name: str, summary: Mapping[str, Any]) -> list[str]:
    """Return why a reference is too broken to compare anything with, one line per threshold it misses."""
    intervals = {"accuracy": summary["accuracy_interval"]}
    found = (judge_threshold(bound, summary, intervals, gate.interval_below_n) for bound in gate.reference)
    return [f"reference '{name}': {reason}" for reason in found if reason]
