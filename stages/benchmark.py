"""Measure latency, load time, memory and size of an artifact on this host.

Reads: the artifact, probe inputs, the host's fingerprint, the checkpoint's profile; the artifact of an earlier release,
    where conf/gate names one.
Writes: `metrics.json`, `samples.npz` (raw milliseconds), `manifest.json`.
Why: a fresh process that only runs the artifact is what an app pays; the fingerprint says where.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact, cli, params
from stages.core.errors import ArtifactError
from stages.core.params import Section
from stages.judging.regression import may_be_slower, read_released
from stages.measure import extent, statistics
from stages.schema.gate import Baseline, Benchmark
from stages.targets import registry
from stages.targets.timing import time_artifact, time_in_turns


class Params(Section):
    """How to measure, and the release to measure beside."""

    baseline: Baseline | None
    benchmark: Benchmark


def summarise(samples: dict[str, NDArray[np.float64]], confidence: float) -> dict[str, Any]:
    """Turn raw milliseconds into quantiles with bootstrap intervals.

    Args:
        samples: `true_length` and `full_length`, each [repetitions] in ms.
        confidence: coverage of the intervals.

    Returns:
        `values`, `intervals`, and `counts`: runs behind each.
    """
    values: dict[str, float] = {}
    intervals: dict[str, statistics.Interval] = {}
    counts: dict[str, int] = {}
    for kind, prefix in (("true_length", "latency"), ("full_length", "latency_full")):
        for percent in (50, 90, 99):
            key = f"{prefix}_p{percent}_ms"
            values[key], intervals[key] = statistics.bootstrap_quantile(samples[kind], percent / 100, confidence)
            counts[key] = len(samples[kind])
    return {"values": {**values, "n": len(samples["true_length"])}, "intervals": intervals, "counts": counts}


def run(
    settings: Params, target: str, artifact_dir: Path, reference: Path, checkpoint: Path, host: Path, out: Path
) -> None:
    """Measure, or record why nothing was measured.

    Raises:
        ArtifactError: the release to measure beside is missing or altered, or its artifact cannot be timed.
    """
    values = extent.measure(artifact_dir, checkpoint)
    result: dict[str, Any] = {
        "counts": dict.fromkeys(values, 1),
        "host": artifact.read_json(host),
        "intervals": {},
        "load_average": list(os.getloadavg()),
        "values": values,
    }
    samples: dict[str, NDArray[np.float64]] = {}
    reason = registry.runtime(target).timing_unavailable()
    if reason is not None:
        result |= {"reason": reason, "status": "not_measured"}
    else:
        try:
            timed = time_artifact(target, artifact_dir, reference / "probe.npz", settings.benchmark)
            samples = {kind: np.asarray(timed["samples_ms"][kind]) for kind in ("true_length", "full_length")}
            summary = summarise(samples, settings.benchmark.confidence)
            process = {key: timed[key] for key in ("load_time_ms", "peak_rss_bytes")}
            result["values"] |= summary["values"] | process
            result["counts"] |= summary["counts"] | dict.fromkeys(process, 1)
            result |= {key: timed[key] for key in ("runtime", "runtime_versions")}
            result |= {"intervals": summary["intervals"], "status": "measured"}
        except ArtifactError as error:
            result |= {"reason": str(error), "status": "failed"}
        else:  # what is wrong with the release stops the build, and is no fault of this variant's
            result["ratios_to_release"] = _beside_release(settings, target, artifact_dir, reference, result)
    with artifact.writing(
        out, stage="benchmark", parents={"artifact": artifact_dir, "host": host}, params=settings
    ) as temporary:
        artifact.write_json(temporary / "metrics.json", result)
        artifact.write_arrays(temporary / "samples.npz", samples)


def _beside_release(
    settings: Params, target: str, artifact_dir: Path, reference: Path, measured: dict[str, Any]
) -> list[float]:
    """Time the variant and its released predecessor in turns, where what is recorded of them leaves a doubt."""
    if settings.baseline is None:
        return []
    old = read_released(Path(settings.baseline.bundles), artifact_dir.name)
    if old is None or not may_be_slower(old, measured["values"], settings.baseline, measured["host"]):
        return []
    return time_in_turns(target, old.path, artifact_dir, reference / "probe.npz", settings.benchmark)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = cli.parser(__doc__, "artifact", "reference", "checkpoint", "host", "out")
    parser.add_argument("--target", required=True)
    return cli.execute(
        parser,
        argv,
        lambda arguments: run(
            params.load(Params, {"baseline": "gate.baseline", "benchmark": "benchmark"}, arguments.params),
            arguments.target,
            arguments.artifact,
            arguments.reference,
            arguments.checkpoint,
            arguments.host,
            arguments.out,
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
