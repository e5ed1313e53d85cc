"""Add to the verdicts what shows only beside something else: a parent, a released predecessor, another host."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.core import artifact
from stages.gating import host_truth
from stages.gating.answers import read_answers
from stages.gating.dominated import dominated, parents
from stages.gating.regression import read_released, regressions, slowdown
from stages.schema.gate import Baseline
from stages.schema.layout import HOST, place
from stages.schema.measured import read_benchmark, read_parity
from stages.schema.variant import Precision, Variant
from stages.schema.verdict import Entry
from stages.tasks.facts import of_data


def review(
    entries: Mapping[str, Entry],
    variants: Mapping[str, Variant],
    precisions: Mapping[str, Precision],
    baseline: Baseline | None,
    build: Path,
) -> dict[str, Entry]:
    """Return the verdicts with `dominated` (why, or empty) and `notes`, failing those that fell behind a release.

    Args:
        entries: what each variant's own measurements say of it.
        variants: the chosen variants.
        precisions: what their precisions mean.
        baseline: the release to compare with, if any.
        build: directory of all stage outputs.

    Raises:
        ArtifactError: the release is missing or altered.
    """
    host = artifact.read_json(build / HOST)
    parent = parents(variants, precisions)
    reviewed = {}
    for key, entry in entries.items():
        found = entry.copy()
        found["dominated"] = _dominated(build, entries, key, parent[key]) if key in parent else ""
        found["notes"] = _notes(build, key, host)
        if baseline:
            missing, fallen = _fallen(build, key, entry, baseline, host)
            found["notes"] += missing
            found["reasons"] = [*entry["reasons"], *fallen]
            found["verdict"] = "fail" if fallen else entry["verdict"]
        reviewed[key] = found
    return reviewed


def _dominated(build: Path, entries: Mapping[str, Entry], key: str, parent: str) -> str:
    answers, others = read_answers(build, key), read_answers(build, parent)
    if answers is None or others is None:
        return ""
    return dominated(of_data(place(build, "data")), entries[key], answers, parent, entries[parent], others)


def _notes(build: Path, key: str, host: Mapping[str, Any]) -> list[str]:
    measured = read_parity(place(build, "parity", variant=key))
    counted = {"clipped": 0, "sums": 0} | (measured.get("saturation") or {})
    said = host_truth.notes(machine=host["machine"], isa=host["cpu_isa"].split(), **counted)
    return [*filter(None, [measured.get("numerics")]), *said]


def _fallen(
    build: Path, key: str, entry: Entry, baseline: Baseline, host: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """Return why a variant was not compared with the release, and where it fell behind it."""
    bundles = Path(baseline.bundles)
    old = read_released(bundles, key)
    if old is None:
        return [f"not compared with '{bundles}': it has no bundle of this variant"], []
    fallen = regressions(
        old,
        entry,
        baseline,
        artifact.digest(place(build, "data")),
        read_answers(build, key),
    )
    ratios = read_benchmark(place(build, "benchmark", variant=key)).get("ratios_to_release", [])
    return [], fallen + slowdown(old, entry["metrics"], baseline, host, ratios)
