"""Compare a variant with the same variant of an earlier release, and say where it fell behind.

A change counts when it is beyond its bound and more than noise: answers are paired where both builds have the same
test split, rates compared by their 95 % intervals where they have not, and a latency that looks worse is measured
again by the benchmark, old and new in turns (`stages.running.timing`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact
from stages.gating.answers import right
from stages.measure.items import Record
from stages.measure.statistics import paired_difference
from stages.schema.gate import Baseline
from stages.schema.verdict import Entry

LATENCY = "latency_p50_ms"


@dataclass(frozen=True)
class Released:
    """A bundle of an earlier release.

    Attributes:
        path: the bundle.
        entry: its verdict: `metrics`, `intervals`, `host`.
        data: sha256 of the manifest of the data it was built from.
        answers: [items] its classes on that data's test split, None where it was not run.
    """

    path: Path
    entry: Entry
    data: str
    answers: NDArray[np.integer[Any]] | None


def read_released(bundles: Path, key: str) -> Released | None:
    """Read the bundle of a variant, None where that release had none.

    Raises:
        ArtifactError: the release is missing, incomplete or altered.
    """
    artifact.require(bundles)
    path = bundles / key
    if not path.is_dir():
        return None
    return Released(
        path,
        artifact.read_json(path / "verdict.json"),
        artifact.manifest(path)["parents"]["data"],
        artifact.read_arrays(path / "golden.npz").get("test_answers"),
    )


def regressions(old: Released, new: Entry, bounds: Baseline, data: str, answered: Record | None) -> list[str]:
    """Return where a variant is worse than its released predecessor by more than `bounds` and more than noise.

    Args:
        old: what was released.
        new: the variant's `metrics` and `intervals`.
        bounds: how far it may fall behind.
        data: sha256 of the manifest of the data it was built from.
        answered: what it answered to the test split, None where it was not run.
    """
    found = _growth(old.entry, new, bounds.size_ratio)
    if answered is not None and old.answers is not None and old.data == data:
        found += _paired_drop(old.answers, answered, bounds.accuracy_drop)
    else:
        found += _drop("accuracy", old.entry, new, bounds.accuracy_drop)
    found += _drop("top1_agreement", old.entry, new, bounds.agreement_drop)
    return [f"regression against '{old.path}': {what}" for what in found]


def may_be_slower(old: Released, new: Mapping[str, float], bounds: Baseline, host: Mapping[str, Any]) -> bool:
    """Return whether recorded latencies leave a doubt, so that the benchmark times both again, in turns.

    Args:
        old: what was released.
        new: the variant's metrics.
        bounds: how far it may fall behind.
        host: fingerprint of this host; what a release was timed at elsewhere says nothing here.
    """
    if LATENCY not in new or LATENCY not in old.entry["metrics"]:
        return False
    return bool(old.entry["host"] != host or new[LATENCY] > bounds.latency_ratio * old.entry["metrics"][LATENCY])


def slowdown(
    old: Released, new: Mapping[str, float], bounds: Baseline, host: Mapping[str, Any], ratios: Sequence[float]
) -> list[str]:
    """Return that a variant became slower, where it did.

    Slower is what is beyond the bound in every turn: of five that happens by chance once in 32 to an artifact exactly
    at the bound.

    Args:
        old: what was released.
        new: the variant's metrics.
        bounds: how far it may fall behind.
        host: fingerprint of this host.
        ratios: of both timed again in turns, new over old, one ratio of medians per turn.
    """
    if not may_be_slower(old, new, bounds, host):
        return []
    if not ratios:
        return [f"regression against '{old.path}': the benchmark did not time both in turns; run `dvc repro benchmark`"]
    if min(ratios) <= bounds.latency_ratio:
        return []
    return [
        f"regression against '{old.path}': p50 latency {min(ratios):.3g} to {max(ratios):.3g} times, timed "
        f"{len(ratios)} times in turns, at most {bounds.latency_ratio:g}"
    ]


def _growth(old: Entry, new: Entry, bound: float) -> list[str]:
    """Compare sizes; nothing where one is not known, which its own verdict says."""
    before, after = (entry["metrics"].get("size_bytes") for entry in (old, new))
    if before is None or after is None or after <= bound * before:
        return []
    return [f"size {before * 1e-6:.3g} → {after * 1e-6:.3g} MB, {after / before:.3g} times, at most {bound:g}"]


def _paired_drop(old: NDArray[np.integer[Any]], new: Record, bound: float) -> list[str]:
    before, after = right(old, new.wanted), right(new.answer, new.wanted)
    drop, (low, high) = paired_difference(before, after, new.case[new.known])
    if drop <= bound or low <= 0:
        return []
    return [
        f"accuracy {before.mean():.4f} → {after.mean():.4f}, {drop:.4f} less [{low:.4f}, {high:.4f}] on the same "
        f"{len(before)} utterances, at most {bound:g}"
    ]


def _drop(name: str, old: Entry, new: Entry, bound: float) -> list[str]:
    """Compare a rate by its intervals; nothing where one of the two was not measured."""
    if name not in old["metrics"] or name not in new["metrics"]:
        return []
    before, after = old["metrics"][name], new["metrics"][name]
    disjoint = new["intervals"][name][1] < old["intervals"][name][0]
    if before - after <= bound or not disjoint:
        return []
    return [f"{name} {before:.4f} → {after:.4f}, intervals apart, at most {bound:g} less"]
