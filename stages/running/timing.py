"""Time artifacts on a device, one or two in turns."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from stages.running.runner import Receipt, Request, Runner, Timing
from stages.schema.gate import Benchmark

TURNS = 5
SPLIT = "probe"


def time_artifact(runner: Runner, target: str, artifact: Path, reference: Path, settings: Benchmark) -> Receipt:
    """Time an artifact on the first texts of the probe split.

    Raises:
        ArtifactError: it cannot be run.
    """
    timing = Timing(split=SPLIT, texts=settings.utterances, warmup=settings.warmup, repetitions=settings.repetitions)
    request = Request(target=target, threads=settings.threads, answer=None, time=timing)
    with tempfile.TemporaryDirectory() as scratch:
        return runner.run(request, artifact, reference, Path(scratch))


def time_in_turns(
    runner: Runner, target: str, old: Path, new: Path, reference: Path, kind: str, settings: Benchmark
) -> list[float]:
    """Time two artifacts in turns, every other turn the other one first, so that drift of the host falls on both.

    Args:
        runner: where they run.
        target: their platform.
        old: one artifact.
        new: the other.
        reference: the inputs of both.
        kind: of call that is compared.
        settings: how to time.

    Returns:
        New over old, the ratio of the medians, one per turn.
    """
    ratios = []
    for turn in range(TURNS):
        sides = {"old": old, "new": new}
        median = {}
        for side in sorted(sides, reverse=turn % 2 == 0):
            samples = time_artifact(runner, target, sides[side], reference, settings)["samples_ms"]
            median[side] = float(np.median(samples[kind]))
        ratios.append(median["new"] / median["old"])
    return ratios
