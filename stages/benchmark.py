"""Measure latency, load time, memory and size of an artifact on this host.

Reads: the artifact, probe inputs, the host's fingerprint, the checkpoint's profile; the artifact of an earlier release,
    where conf/gate names one.
Writes: `metrics.json`, `samples.npz` (raw milliseconds), `manifest.json`.
Why: a fresh process that only runs the artifact is what an app pays; the fingerprint says where.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact, cli, params
from stages.core.errors import ArtifactError
from stages.core.params import Section
from stages.gating.regression import may_be_slower, read_released
from stages.measure import extent, statistics
from stages.measure.registry import PERCENTILES, REGISTRY
from stages.running import local
from stages.running.timing import time_artifact, time_in_turns
from stages.schema.gate import Baseline, Benchmark
from stages.schema.measured import Benchmark as Measured
from stages.targets import registry
from stages.targets.base import Signature, read_signature
from stages.tasks.base import PAST
from stages.tasks.facts import facts


class Params(Section):
    """How to measure, and the release to measure beside."""

    baseline: Baseline | None
    benchmark: Benchmark


def summarise(
    samples: Mapping[str, NDArray[np.float64]], latencies: Mapping[str, str], confidence: float
) -> tuple[dict[str, float], dict[str, statistics.Interval], dict[str, int]]:
    """Turn raw milliseconds into quantiles with bootstrap intervals.

    Args:
        samples: kind of call → ms, each [repetitions].
        latencies: kind of call → how its metrics begin.
        confidence: coverage of the intervals.

    Returns:
        Values, intervals, and runs behind each.
    """
    values: dict[str, float] = {}
    intervals: dict[str, statistics.Interval] = {}
    counts: dict[str, int] = {}
    for kind, prefix in latencies.items():
        for percent in PERCENTILES:
            key = f"{prefix}_p{percent}_ms"
            values[key], intervals[key] = statistics.bootstrap_quantile(samples[kind], percent / 100, confidence)
            counts[key] = len(samples[kind])
    return values | {"n": len(samples[next(iter(latencies))])}, intervals, counts


def speeds(
    samples: Mapping[str, NDArray[np.float64]], tokens: Mapping[str, int], wanted: Mapping[str, str], confidence: float
) -> tuple[dict[str, float], dict[str, statistics.Interval], dict[str, int]]:
    """Turn raw milliseconds into tokens per second, or into what the median call takes.

    Args:
        samples: kind of call → ms, each [repetitions].
        tokens: kind → tokens that a call reads.
        wanted: metric → kind; its unit says which of the two.
        confidence: coverage of the intervals.

    Returns:
        Values, intervals, and runs behind each.
    """
    values: dict[str, float] = {}
    intervals: dict[str, statistics.Interval] = {}
    for name, kind in wanted.items():
        median, (low, high) = statistics.bootstrap_quantile(samples[kind], 0.5, confidence)
        if REGISTRY[name].unit == "ms":
            values[name], intervals[name] = median, (low, high)
        else:
            count = 1e3 * tokens[kind]
            values[name], intervals[name] = count / median, (count / high, count / low)
    return values, intervals, {name: len(samples[kind]) for name, kind in wanted.items()}


def cache_bytes_per_token(signature: Signature) -> dict[str, int]:
    """Return by its name what a token leaves in the states of a call, nothing where no call keeps one of each token."""
    states = max((call.states for call in signature.calls), key=len, default=[])
    sizes = [
        np.dtype(state.dtype).itemsize * prod(axis for axis in state.axes if isinstance(axis, int))
        for state in states
        if PAST in state.axes
    ]
    return {"cache_bytes_per_token": sum(sizes)} if sizes else {}


def run(
    settings: Params, target: str, artifact_dir: Path, reference: Path, checkpoint: Path, host: Path, out: Path
) -> None:
    """Measure, or record why nothing was measured.

    Raises:
        ArtifactError: the release to measure beside is missing or altered, or its artifact cannot be timed.
    """
    values: dict[str, Any] = dict(extent.measure(artifact_dir, checkpoint))
    result: Measured = {
        "counts": dict.fromkeys(values, 1),
        "host": local.fingerprint(),
        "intervals": {},
        "load_average": list(os.getloadavg()),
        "values": values,
    }
    samples: dict[str, NDArray[np.float64]] = {}
    reason = local.available() or registry.runtime(target).timing_unavailable()
    if reason is not None:
        result |= {"reason": reason, "status": "not_measured"}
    else:
        try:
            timed = time_artifact(local, target, artifact_dir, reference, settings.benchmark)
        except ArtifactError as error:
            result |= {"reason": str(error), "status": "failed"}
        else:
            signature, confidence = read_signature(artifact_dir), settings.benchmark.confidence
            task, cache = facts(signature.task), cache_bytes_per_token(signature)
            kinds = dict.fromkeys([*task.LATENCIES, *filter(None, task.SPEEDS.values())])
            samples = {kind: np.asarray(timed["samples_ms"][kind]) for kind in kinds}
            quantiles, intervals, counts = summarise(samples, task.LATENCIES, confidence)
            wanted = {name: kind for name, kind in task.SPEEDS.items() if kind}
            more = speeds(samples, timed["tokens"], wanted, confidence)
            once = {**cache, "load_time_ms": timed["load_time_ms"], "peak_rss_bytes": timed["peak_rss_bytes"]}
            values |= {**quantiles, **more[0], **once}
            result |= {
                "counts": {**result["counts"], **counts, **more[2], **dict.fromkeys(once, 1)},
                "intervals": {**intervals, **more[1]},
                "runtime": timed["runtime"],
                "runtime_versions": timed["runtime_versions"],
                "status": "measured",
            }
            # What is wrong with the release stops the build, and is no fault of this variant's.
            kind = next(iter(task.LATENCIES))
            result["ratios_to_release"] = _beside_release(settings, target, artifact_dir, reference, kind, result)
    with artifact.writing(
        out, stage="benchmark", parents={"artifact": artifact_dir, "host": host}, params=settings
    ) as temporary:
        artifact.write_json(temporary / "metrics.json", result)
        artifact.write_arrays(temporary / "samples.npz", samples)


def _beside_release(
    settings: Params, target: str, artifact_dir: Path, reference: Path, kind: str, measured: Measured
) -> list[float]:
    """Time the variant and its released predecessor in turns, where what is recorded of them leaves a doubt."""
    if settings.baseline is None:
        return []
    old = read_released(Path(settings.baseline.bundles), artifact_dir.name)
    if old is None or not may_be_slower(old, measured["values"], settings.baseline, measured["host"]):
        return []
    return time_in_turns(local, target, old.path, artifact_dir, reference, kind, settings.benchmark)


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
