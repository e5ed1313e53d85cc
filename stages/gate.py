"""Judge every variant's measurements against its thresholds.

Reads: parity, benchmark and coverage of every chosen variant, the summaries of their references, what teacher and
    student score, the lock, the host's fingerprint, and the bundles of an earlier release where conf/gate names one.
Writes: `verdicts.json` (a contract outside tools read) and `metrics.json` for `dvc metrics`.
Why: one place decides, it never fails the build, and nothing is released without its `pass`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.core import artifact, cli
from stages.core.params import Section
from stages.gating import beside, devices
from stages.gating.review import review
from stages.gating.verdict import Measurement, Verdict, flatten, judge, judge_reference, judge_score
from stages.schema.covered import read_coverage
from stages.schema.device import Device
from stages.schema.gate import Gate
from stages.schema.layout import BESIDE, CHECKPOINTS, HOST, MEASURED, behind, place
from stages.schema.measured import Benchmark, Parity, read_benchmark, read_parity
from stages.schema.variant import Precision, Variant
from stages.schema.verdict import Entry
from stages.targets import executing
from stages.tasks.facts import facts, of_data


class Params(Section):
    """The thresholds, the chosen variants and the devices that they are for."""

    devices: dict[str, Device]
    gate: Gate
    precisions: dict[str, Precision]
    variants: dict[str, Variant]


def run(settings: Params, build: Path, constraints: Path, verdicts: Path, merged: Path) -> None:
    """Judge the chosen variants and none of the leftovers.

    Args:
        settings: thresholds and variants.
        build: directory with `data/`, `reference/`, `parity/`, `benchmark/`, `coverage/`, `host.json`, `teacher/` and
            `student/`.
        constraints: the lock, which says what must have executed the artifacts.
        verdicts: where the verdicts go.
        merged: where the flat metrics go.
    """
    host, locked = artifact.read_json(build / HOST), executing.pins(constraints)
    scores = {name: artifact.read_json(place(build, name) / "evaluation.json") for name in CHECKPOINTS}
    task = facts(of_data(place(build, "data")))
    # What every table shows of teacher and student.
    shown = (task.PRIMARY.metric, "parameters")
    unsound = [reason for name, score in scores.items() for reason in judge_score(name, score, shown)]
    baseline = artifact.read_json(place(build, "data") / "summary.json")["baseline"]
    unsound += judge_score("baseline", baseline, (task.PRIMARY.of_bar,))
    bar = None if unsound else beside.bar_of(baseline, task.PRIMARY)
    out: dict[str, Entry] = {}
    for key, variant in settings.variants.items():
        places = behind(build, key, variant.compression, variant.target)
        summary = artifact.read_json(artifact.require(places["reference"]) / "summary.json")
        parity = read_parity(artifact.require(places["parity"]))
        benchmark = read_benchmark(artifact.require(places["benchmark"]))
        places["coverage"] = artifact.require(place(build, "coverage", variant=key))
        covered = read_coverage(places["coverage"])
        measured = flatten(parity, benchmark, host, task, covered)
        if bar:
            beside.add(measured, task.PRIMARY, scores["teacher"], bar)
        beside.add_student(measured, task.PRIMARY, scores["student"])
        measured.altered.extend(_foreign(places))
        measured.unsound.extend(executing.foreign(_versions(parity, benchmark), locked))
        fits = devices.fits(settings.devices, variant.target, covered, measured.values)
        floor = judge_reference(settings.gate, variant.compression, summary, task.PRIMARY.metric)
        verdict = judge(
            measured,
            settings.gate.bounds(variant.precision, variant.target),
            settings.gate.interval_below_n,
            [*floor, *unsound, *devices.unfit(fits)],
        )
        out[key] = _entry(settings.gate, variant, places, parity, benchmark, measured, verdict)
        out[key]["devices"] = fits
        if bar:
            out[key]["bar"] = bar
    reviewed = review(out, settings.variants, settings.precisions, settings.gate.baseline, build)
    for entry in reviewed.values():
        unserved = devices.unserved(settings.devices, entry["target"])
        entry["notes"] = [*beside.beaten(entry, task.PRIMARY), *unserved, *entry["notes"]]
    artifact.write_json(verdicts, {"variants": reviewed})
    artifact.write_json(merged, _flat(scores, reviewed, shown))


def _entry(
    gate: Gate,
    variant: Variant,
    places: Mapping[str, Path],
    parity: Parity,
    benchmark: Benchmark,
    measured: Measurement,
    verdict: Verdict,
) -> Entry:
    """Put together what is said of a variant."""
    calibration = parity.get("calibration", {})
    return {
        "calibration": {key: value for key, value in calibration.items() if key not in ("counts", "values")},
        "compression": variant.compression,
        "counts": measured.counts,
        "devices": {},
        "dominated": "",
        "host": benchmark.get("host", {}),
        "intervals": measured.intervals,
        "measured": {role: artifact.digest(places[role]) for role in MEASURED},
        "metrics": measured.values,
        "notes": [],
        "precision": variant.precision,
        "reasons": verdict.reasons,
        "runtime": measured.runtime,
        "runtime_versions": parity.get("runtime_versions", {}),
        "target": variant.target,
        "thresholds": gate.applied(variant.precision, variant.target),
        "timing": measured.timing,
        "verdict": verdict.verdict,
    }


def _versions(parity: Parity, benchmark: Benchmark) -> dict[str, Mapping[str, str]]:
    """Return what each stage that ran the artifact says it ran on."""
    stages = {"parity": parity, "benchmark": benchmark}
    return {
        name: found.get("runtime_versions", {}) for name, found in stages.items() if found.get("status") == "measured"
    }


def _foreign(places: Mapping[str, Path]) -> list[str]:
    """Say which measurements were taken of other bytes than the artifact's that lie there now."""
    actual = artifact.digest(places["artifact"])
    return [
        f"its {role} was measured on another artifact"
        for role in (*MEASURED, *BESIDE)
        if artifact.manifest(places[role])["parents"]["artifact"] != actual
    ]


def _flat(scores: Mapping[str, Any], variants: Mapping[str, Entry], shown: Sequence[str]) -> dict[str, Any]:
    """One tree of numbers for `dvc metrics`: what came in, what was distilled, what was built."""
    tree: dict[str, Any] = {key: entry["metrics"] for key, entry in variants.items()}
    return tree | {name: {key: score[key] for key in shown if key in score} for name, score in scores.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.stage(
        __doc__, argv, run, Params, "build", "constraints", "verdicts", "metrics", outputs=("verdicts", "metrics")
    )


if __name__ == "__main__":
    sys.exit(main())
