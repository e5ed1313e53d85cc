"""Time a cold and a no-op `dvc repro` in a fresh clone, stage by stage.

    python -m benchmarks.build [-- HYDRA_OVERRIDE ...]

The clone has its own cache; a relative path in an override is resolved from the clone, so give absolute ones.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def spend(command: Sequence[str], where: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Run a command.

    Returns:
        Wall and CPU seconds, children's included.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=where, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, cpu


def instance(argv: Sequence[str]) -> str:
    """Name a stage's instance by the last part of its output path."""
    for flag in ("--out", "--verdicts"):
        if flag in argv:
            return Path(argv[list(argv).index(flag) + 1]).name
    return ""


def print_costs(costs: Sequence[dict[str, Any]]) -> None:
    """Print one row per executed stage, in order."""
    print(f"{'stage':<12}{'instance':<34}{'wall s':>8}{'CPU s':>8}{'peak MB':>9}")
    for cost in costs:
        megabytes = cost["peak_rss_bytes"] / 1e6
        print(
            f"{cost['stage']:<12}{instance(cost['argv']):<34}{cost['wall_s']:>8.1f}{cost['cpu_s']:>8.1f}{megabytes:>9.0f}"
        )


def main() -> int:
    """Clone, build cold, build again, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for stages.compose")
    overrides = parser.parse_args().overrides
    with tempfile.TemporaryDirectory() as scratch:
        clone, log = Path(scratch) / "clone", Path(scratch) / "costs.jsonl"
        subprocess.run(["git", "clone", "--quiet", str(Path.cwd()), str(clone)], check=True)
        environment = {**os.environ, "TINSMITH_COSTS": str(log), "MLFLOW_TRACKING_URI": ""}
        if overrides:
            subprocess.run([sys.executable, "-m", "stages.compose", *overrides], cwd=clone, check=True)
        cold = spend(["dvc", "repro"], clone, environment)
        print_costs([json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()])
        again = spend(["dvc", "repro"], clone, environment)
        print(f"\ncold  {cold[0]:.1f} s wall, {cold[1]:.1f} s CPU\nno-op {again[0]:.1f} s wall, {again[1]:.1f} s CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
