"""Judge one variant's measurements against thresholds; anything not known to be good is not a pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stages.gating.soundness import Flat, N, absent, sift
from stages.measure.registry import ACCELERATORS, REGISTRY, accelerated
from stages.schema.covered import Coverage
from stages.schema.gate import Gate, Threshold, needed_items
from stages.schema.measured import Benchmark, Parity, Part, PartName, SplitName, Structure
from stages.schema.verdict import Word
from stages.tasks.facts import Facts

# Extremes are taken over the probe and the test split; rates and means come from the larger, the test split.
EXTREMES = ("max_abs_error", "relative_max_error", "cosine_similarity_min", "kl_divergence_max", "non_finite_count")
# The coverage inputs are no sample of what users write, so what is measured there has names and bounds of its own.
COVERAGE = {
    "coverage_agreement": "top1_agreement",
    "coverage_kl_mean": "kl_divergence_mean",
    "coverage_relative_error": "relative_max_error",
}
PARTS: tuple[PartName, ...] = ("weights", "structure", "conversion", "form", "calibration", "activations", "greedy")
MEASURED, NOT_MEASURED = "measured", "not_measured"
UNSAID = "it has neither a latency nor a reason why there is none"


@dataclass(frozen=True)
class Measurement:
    """Everything measured of one variant, flat.

    Attributes:
        status: parity's `measured`, `not_measured` or `failed`.
        reason: why it is not `measured`.
        altered: differences between the artifact and its manifest.
        values: metric → number, for metrics that were measured; only numbers that their metric can have.
        intervals: metric → 95 % interval, for rates and quantiles.
        counts: metric → number of items it was measured on.
        texts: metric → number of texts that these come from, where a text has several.
        unsound: why a number that was found is none, or why one that must be there is not.
        same_host: whether the benchmark was taken on this host.
        runtime: what executed the artifact.
        timing: why there is no latency, or empty.
        timing_failed: whether that is because the artifact broke while it was timed.
        details: metric → what and where, for the reason why its threshold is missed.
    """

    status: str | None
    reason: str
    altered: list[str]
    values: dict[str, float]
    intervals: dict[str, list[float]]
    counts: dict[str, int] = field(default_factory=dict)
    unsound: list[str] = field(default_factory=list)
    same_host: bool = True
    runtime: str | None = None
    timing: str = ""
    timing_failed: bool = False
    details: Mapping[str, str] = field(default_factory=dict)
    texts: dict[str, int] = field(default_factory=dict)


@dataclass
class Verdict:
    """What the gate says of one variant."""

    verdict: Word
    reasons: list[str] = field(default_factory=list)


def flatten(
    parity: Parity, benchmark: Benchmark, host: Mapping[str, Any], task: Facts, covered: Coverage | None = None
) -> Measurement:
    """Merge what was measured of a variant into one flat set of metrics.

    Args:
        parity: `metrics.json` of parity.
        benchmark: `metrics.json` of benchmark.
        host: fingerprint of this host.
        task: says what must have been measured.
        covered: `metrics.json` of coverage, None where nobody asks for it.
    """
    found = Flat({}, {}, {})
    for part in PARTS:
        found.add(parity.get(part, {}))
    status = parity.get("status")
    if status == MEASURED:
        _add_splits(found, parity)
    timed = {name: value for name, value in benchmark.get("values", {}).items() if name != "n"}
    found.add({**benchmark, "values": timed})
    if covered is not None:
        found.add({name: covered[name] for name in ("counts", "values") if name in covered})
    untimed = _untimed(benchmark)
    sound, unsound = sift(found)
    unsound += absent(
        found.values,
        task,
        read=status in (MEASURED, NOT_MEASURED),
        executed=status == MEASURED,
        timed=untimed is None,
    )
    return Measurement(
        status=status,
        reason=parity.get("reason")
        or ("" if status == MEASURED else "parity gives no reason for having no measurement"),
        altered=parity.get("altered", []),
        values=sound.values,
        intervals=sound.intervals,
        counts=sound.counts,
        unsound=unsound,
        same_host=benchmark.get("host") == host,
        runtime=parity.get("runtime"),
        timing=untimed or "",
        timing_failed=untimed is not None and (benchmark.get("status") != NOT_MEASURED or untimed == UNSAID),
        details=_details(parity) | (_refused(covered) if covered is not None else {}),
        texts=sound.texts,
    )


def _untimed(benchmark: Benchmark) -> str | None:
    """Return why nothing was timed; None where it was."""
    return None if benchmark.get("status") == MEASURED else benchmark.get("reason") or UNSAID


def _add_splits(found: Flat, parity: Parity) -> None:
    """Add what the answers say: of the test split, the worse of probe and test, all of them, and of the coverage."""
    names: tuple[SplitName, ...] = ("probe", "test", "coverage")
    parts = {name: parity.get(name, {}) for name in names}
    splits = {name: part.get("values", {}) for name, part in parts.items()}
    found.add(parts["test"])
    if texts := parts["test"].get("texts"):
        found.values[N] = max(texts.values())
    for name in EXTREMES:
        # Any split alone proves the artifact broken: what is not finite is counted on all of them.
        chosen = names if name == "non_finite_count" else names[:2]
        found.values.pop(name, None)
        if all(name in splits[each] for each in chosen):
            found.values[name] = _worst(name, [splits[each][name] for each in chosen])
            _count(found, name, [parts[each] for each in chosen], name)
    for name, source in COVERAGE.items():
        if source in splits["coverage"]:
            found.values[name] = splits["coverage"][source]
            _count(found, name, [parts["coverage"]], source)


def _count(found: Flat, name: str, parts: Sequence[Part], source: str) -> None:
    """Count the items and the texts behind a metric over several splits, which call it `source`."""
    counts = [part.get("values", {}).get("n", 0) for part in parts]
    found.counts[name] = sum(counts)
    if any(part.get("texts") for part in parts):
        found.texts[name] = sum(part.get("texts", {}).get(source, n) for part, n in zip(parts, counts, strict=True))


def _worst(name: str, values: Sequence[Any]) -> Any:
    """Return the worst of several splits, all of them for a count; of a number that cannot be, that one."""
    metric = REGISTRY[name]
    broken = [value for value in values if metric.impossible(value)]
    if broken:
        return broken[0]
    if metric.unit == "count":
        return sum(values)
    return (max if metric.better == "lower" else min)(values)


def _details(parity: Parity) -> dict[str, str]:
    """Name the weight, operator or form behind a metric, worst first."""
    compared = parity.get("weights", {})
    worst = compared.get("worst", {})
    forms = parity.get("form", {}).get("forms", {})
    nothing: Structure = {"beyond": [], "differences": []}
    structure = parity.get("structure", nothing)
    found = {
        "activations_beyond_count": "; ".join(parity.get("activations", {}).get("misfits", [])[:2]),
        "conversion_weight_error_max": compared.get("converted", ""),
        "form_relative_error": max(forms, key=lambda form: forms[form], default=""),
        "greedy_divergent_count": parity.get("greedy", {}).get("first", ""),
        "structure_difference_count": "; ".join(structure["differences"][:2]),
        "weight_cosine_min": min(worst, key=lambda name: (worst[name], name), default=""),
        "weight_error_ratio_max": compared.get("rounded", ""),
        "weights_beyond_count": "; ".join(structure["beyond"][:2]),
    }
    return {metric: detail for metric, detail in found.items() if detail}


def _refused(covered: Coverage) -> dict[str, str]:
    """Name what an accelerator refuses, behind both of its metrics; or why nothing is known of any."""
    if covered["status"] == "failed":
        return {metric: covered["reason"] for name in ACCELERATORS for metric in accelerated(name)}
    found = {}
    for name, taken in covered["accelerators"].items():
        for metric, worst in zip(accelerated(name), (taken["refused"][:1], taken["refused"][:2]), strict=True):
            found[metric] = "; ".join(f"{one['operator']}: {one['reason']}" for one in worst)
    return {metric: detail for metric, detail in found.items() if detail}


def judge_threshold(threshold: Threshold, found: Flat, small: int) -> str:
    """Return why a threshold is not met, or an empty string.

    Args:
        threshold: the bound.
        found: what was measured, on how many items.
        small: below this many independent items the unfavourable end of a rate's interval is judged.
    """
    name, n, needed = threshold.metric, found.independent(threshold.metric), needed_items(threshold, small)
    items, metric = REGISTRY[name].sample.items, REGISTRY[name]
    if name not in found.values:
        return f"{name} was not measured"
    if n < threshold.min_n:
        return f"{name} was measured on {n:,} {items}, at least {needed:,} are needed"
    value, judged = found.values[name], "value"
    if n < small and metric.is_rate:
        value = found.intervals[name][0 if threshold.at_least is not None else 1]
        judged = f"95 % bound (n = {n:,})"
    if threshold.holds(value):
        return ""
    sign, bound = ("<", threshold.at_least) if threshold.at_least is not None else (">", threshold.at_most or 0)
    reason = f"{name} {judged} {metric.written(value)} {sign} {metric.written(bound)} {threshold.unit}"
    if n < needed:
        reason += f"; on {n:,} {items} not even perfect answers meet it, {needed:,} are needed"
    return reason


def judge(measured: Measurement, thresholds: Sequence[Threshold], small: int, floor: Sequence[str]) -> Verdict:
    """Judge one variant; anything not known to be good is not a pass.

    Args:
        measured: the variant's measurements.
        thresholds: those of its precision.
        small: below this many items intervals are judged instead of values.
        floor: why its reference is broken, empty when it is sound.
    """
    reasons = [f"artifact differs from its manifest: {problem}" for problem in measured.altered]
    reasons += [*floor, *measured.unsound]
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
    # Said once: what is missing altogether is missed by its threshold too.
    reasons += [reason for reason in _misses(measured, thresholds, small) if reason not in reasons]
    return Verdict("fail" if reasons else "pass", reasons)


def _misses(measured: Measurement, thresholds: Sequence[Threshold], small: int) -> list[str]:
    """Return why thresholds are not met; of a lost weight or a changed operator, which one it is."""
    found = []
    flat = Flat(measured.values, measured.intervals, measured.counts, measured.texts)
    for threshold in thresholds:
        reason = judge_threshold(threshold, flat, small)
        if reason and threshold.metric in measured.details:
            reason += f" ({measured.details[threshold.metric]})"
        found += [reason] if reason else []
    return found


def judge_reference(gate: Gate, name: str, summary: Mapping[str, Any], metric: str) -> list[str]:
    """Return why a reference is too broken to compare anything with, one line per threshold it misses.

    Args:
        gate: the thresholds.
        name: of the compression.
        summary: `summary.json` of the reference.
        metric: of how good a model is.
    """
    counts = {metric: summary["n"], "non_finite_count": sum(summary["counts"].values())}
    values = {name: summary[name] for name in counts if name in summary}
    sound, unsound = sift(Flat(values, {metric: summary[f"{metric}_interval"]}, counts))
    found = (judge_threshold(bound, sound, gate.interval_below_n) for bound in gate.reference)
    return [f"reference '{name}': {reason}" for reason in (*unsound, *found) if reason]


def judge_score(name: str, evaluation: Mapping[str, Any], shown: Sequence[str]) -> list[str]:
    """Return why what something else scored, which tables show beside the variants, cannot be.

    Args:
        name: of what scored.
        evaluation: metric → number, and METRIC_interval of the first that is shown.
        shown: metrics that must be there.
    """
    missing = [f"{metric} was not measured" for metric in shown if metric not in evaluation]
    values = {metric: evaluation[metric] for metric in shown if metric in evaluation}
    _, unsound = sift(Flat(values, {shown[0]: evaluation.get(f"{shown[0]}_interval", [])}, {}))
    return [f"{name}: {reason}" for reason in (*missing, *unsound)]
