"""Time artifacts in processes of their own (`stages.targets.worker`), one or two in turns."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.schema.gate import Benchmark
from stages.targets import worker

TURNS = 5


def time_artifact(target: str, artifact_dir: Path, inputs: Path, settings: Benchmark) -> dict[str, Any]:
    """Run the worker in a process of its own.

    Raises:
        ArtifactError: the worker failed; its last line is quoted.
    """
    with tempfile.TemporaryDirectory() as scratch:
        receipt = Path(scratch) / "samples.json"
        command = [sys.executable, "-m", worker.__name__, "--target", target, "--json", str(receipt)]
        command += ["--artifact", str(artifact_dir), "--inputs", str(inputs)]
        for name in ("threads", "warmup", "repetitions", "utterances"):
            command += [f"--{name}", str(getattr(settings, name))]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ArtifactError(f"'{artifact_dir}' cannot be timed: {last}")
        return dict(artifact.read_json(receipt))


def time_in_turns(target: str, old: Path, new: Path, inputs: Path, settings: Benchmark) -> list[float]:
    """Time two artifacts in turns, every other turn the other one first, so that drift of the host falls on both.

    Returns:
        New over old, the ratio of the medians at the true token length, one per turn.
    """
    ratios = []
    for turn in range(TURNS):
        sides = {"old": old, "new": new}
        median = {}
        for side in sorted(sides, reverse=turn % 2 == 0):
            samples = time_artifact(target, sides[side], inputs, settings)["samples_ms"]
            median[side] = float(np.median(samples["true_length"]))
        ratios.append(median["new"] / median["old"])
    return ratios
