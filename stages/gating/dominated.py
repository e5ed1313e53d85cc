"""Find variants that nobody should choose: compressed further than their parent, and no better for it.

No fault, so no failure: an artifact can be dominated on this host and worth its bytes on a phone. But it is said.
"""

from __future__ import annotations

from collections.abc import Mapping

from stages.measure.items import Record
from stages.schema.variant import Float, Precision, Variant
from stages.schema.verdict import Entry
from stages.tasks import registry as tasks
from stages.tasks.facts import facts, shown

LATENCY = "latency_p50_ms"


def parents(variants: Mapping[str, Variant], precisions: Mapping[str, Precision]) -> dict[str, str]:
    """Name each variant's parent: of the same target and compression, the one in the widest floating point.

    Args:
        variants: the chosen variants.
        precisions: what their precisions mean.

    Returns:
        Variant → parent, for variants that have one chosen beside them.
    """
    floats: dict[tuple[str, str], tuple[int, str]] = {}
    for key, variant in variants.items():
        precision, family = precisions[variant.precision], (variant.target, variant.compression)
        if isinstance(precision, Float):
            floats[family] = max(floats.get(family, (0, "")), (precision.bits, key))
    found = {key: floats.get((variant.target, variant.compression), (0, key))[1] for key, variant in variants.items()}
    return {key: parent for key, parent in found.items() if parent != key}


def dominated(task: str, entry: Entry, answered: Record, name: str, parent: Entry, parent_answered: Record) -> str:
    """Return why a variant is dominated by its parent, or an empty string.

    It is when it is bigger, slower by more than noise wherever both were timed, and not better by more than noise.
    How good they are is paired over the same items, latency compared by its 95 % intervals.

    Args:
        task: what both are for.
        entry: the variant's `metrics` and `intervals`.
        answered: what it answered to the test split.
        name: of the parent.
        parent: the parent's `metrics` and `intervals`.
        parent_answered: what the parent did.
    """
    if not all("size_bytes" in side["metrics"] for side in (entry, parent)):
        return ""
    sizes = [side["metrics"]["size_bytes"] * 1e-6 for side in (entry, parent)]
    primary, own = facts(task).PRIMARY, answered.answers
    # How much worse the parent is than it.
    found = tasks.quality(task).measure(answered.case, answered.wanted, parent_answered.answers, own, own)
    gain, (low, high) = found["values"][primary.to_reference], found["intervals"][primary.to_reference]
    if sizes[0] <= sizes[1] or low > 0:
        return ""
    told = [f"{sizes[0]:.2f} MB against {sizes[1]:.2f}"]
    if LATENCY in entry["metrics"] and LATENCY in parent["metrics"]:
        if entry["intervals"][LATENCY][0] <= parent["intervals"][LATENCY][1]:
            return ""
        told.append(f"p50 {_latency(entry)} ms against {_latency(parent)}")
    scale, unit = shown(primary.to_reference)
    points = " points" if unit == "%" else ""
    told.append(f"{primary.said} {scale * gain:+.2f}{points} [{scale * low:+.2f}, {scale * high:+.2f}]")
    return f"no better than '{name}' on any axis measured here: {', '.join(told)}"


def _latency(entry: Entry) -> str:
    low, high = entry["intervals"][LATENCY]
    return f"{entry['metrics'][LATENCY]:.3g} [{low:.3g}, {high:.3g}]"
