"""Judge every variant's measurements against its thresholds.

Reads: parity and benchmark of every chosen variant, the summaries of their references, the host's fingerprint, and
    the bundles of an earlier release where conf/gate names one; of what fails also the artifact and its checkpoint.
Writes: `verdicts.json` (a contract outside tools read) and `metrics.json` for `dvc metrics`.
Why: one place decides, it never fails the build, and nothing is released without its `pass`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.core import artifact, cli, params
from stages.core.params import Section
from stages.judging.review import review
from stages.judging.verdict import flatten, judge, judge_reference
from stages.schema.gate import Benchmark, Gate
from stages.schema.variant import Precision, Variant
from stages.targets import divergence

PER_VARIANT = ("artifact", "parity", "benchmark")


class Params(Section):
    """The thresholds, the chosen variants, and how they are timed beside a release."""

    benchmark: Benchmark
    gate: Gate
    precisions: dict[str, Precision]
    variants: dict[str, Variant]


def remove_leftovers(build: Path, variants: Sequence[str]) -> list[str]:
    """Delete the outputs of variants that are no longer chosen, so that none enters a report or a release.

    Here and not earlier: a leftover that reappears changes what `gate` depends on, so `gate` runs and clears it.
    """
    removed = []
    for stage in PER_VARIANT:
        for path in sorted((build / stage).glob("*")):
            if path.is_dir() and not path.name.startswith(".") and path.name not in variants:
                shutil.rmtree(path)
                (build / "statements" / stage / f"{path.name}.json").unlink(missing_ok=True)
                removed.append(path.as_posix())
    return removed


def run(settings: Params, build: Path, verdicts: Path, merged: Path) -> None:
    """Judge the chosen variants and none of the leftovers.

    Args:
        settings: thresholds and variants.
        build: directory with `reference/`, `parity/`, `benchmark/`, `host.json`, `teacher/` and `student/`.
        verdicts: where the verdicts go.
        merged: where the flat metrics go.
    """
    for path in remove_leftovers(build, list(settings.variants)):
        print(f"removed '{path}': its variant is no longer chosen")
    host = artifact.read_json(build / "host.json")
    out: dict[str, Any] = {}
    for key, variant in settings.variants.items():
        summary = artifact.read_json(artifact.require(build / "reference" / variant.compression) / "summary.json")
        parity, benchmark = (
            artifact.read_json(artifact.require(build / stage / key) / "metrics.json")
            for stage in ("parity", "benchmark")
        )
        measured = flatten(parity, benchmark, host)
        measured.altered.extend(_foreign(build, key))
        verdict = judge(
            measured,
            [*settings.gate.every, *settings.gate.precisions[variant.precision]],
            settings.gate.interval_below_n,
            judge_reference(settings.gate, variant.compression, summary),
        )
        out[key] = {
            "calibration": {key: value for key, value in parity.get("calibration", {}).items() if key != "values"},
            "compression": variant.compression,
            "host": benchmark["host"],
            "intervals": measured.intervals,
            "measured": {stage: artifact.digest(build / stage / key) for stage in ("parity", "benchmark")},
            "metrics": measured.values,
            "precision": variant.precision,
            "reasons": verdict.reasons,
            "runtime": measured.runtime,
            "target": variant.target,
            "thresholds": settings.gate.applied(variant.precision),
            "timing": measured.timing,
            "verdict": verdict.verdict,
        }
    reviewed = review(out, settings.variants, settings.precisions, settings.gate.baseline, settings.benchmark, build)
    for key, found in divergence.locate(_failing(build, reviewed)).items():
        reviewed[key]["divergence"] = found
        reviewed[key]["reasons"].append(found["conclusion"])
    artifact.write_json(verdicts, {"variants": reviewed})
    artifact.write_json(merged, _flat(build, reviewed))


def _failing(build: Path, entries: Mapping[str, Any]) -> dict[str, divergence.Case]:
    """Say where what failed lies, and what it should have been."""
    return {
        key: divergence.Case(
            target=entry["target"],
            artifact=build / "artifact" / key,
            checkpoint=build / "compressed" / entry["compression"],
            reference=build / "reference" / entry["compression"],
            parity=build / "parity" / key,
        )
        for key, entry in entries.items()
        if entry["verdict"] == "fail"
    }


def _foreign(build: Path, key: str) -> list[str]:
    """Say which measurements were taken of other bytes than the artifact's that lie there now."""
    actual = artifact.digest(build / "artifact" / key)
    return [
        f"its {stage} was measured on another artifact"
        for stage in ("parity", "benchmark")
        if artifact.manifest(build / stage / key)["parents"]["artifact"] != actual
    ]


def _flat(build: Path, variants: Mapping[str, Any]) -> dict[str, Any]:
    """One tree of numbers for `dvc metrics`: what came in, what was distilled, what was built."""
    tree: dict[str, Any] = {key: entry["metrics"] for key, entry in variants.items()}
    for name in ("teacher", "student"):
        evaluation = artifact.read_json(build / name / "evaluation.json")
        tree[name] = {key: evaluation[key] for key in ("accuracy", "parameters")}
    return tree


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = cli.parser(__doc__, "build", "verdicts", "metrics")
    return cli.execute(
        parser,
        argv,
        lambda arguments: run(
            params.load(Params, {name: name for name in Params.model_fields}, arguments.params),
            arguments.build,
            arguments.verdicts,
            arguments.metrics,
        ),
        outputs=("verdicts", "metrics"),
    )


if __name__ == "__main__":
    sys.exit(main())
