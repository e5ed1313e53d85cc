"""Run build steps in processes of their own and record what each costs."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.recipes import Recipe, Step
from stages.core.errors import ConversionError, first_line

ENVIRONMENT = {
    "DO_NOT_TRACK": "true",
    "HF_HUB_OFFLINE": "1",
    "OLIVE_DISABLE_TELEMETRY": "1",
    "OMP_NUM_THREADS": "1",
    "TRANSFORMERS_OFFLINE": "1",
}


@dataclass(frozen=True)
class Cost:
    """What a process and all it waited for took.

    Attributes:
        cpu_s: user and system time.
        wall_s: elapsed time; Olive idles for about ten seconds at its end where it finds no network.
        peak_rss_bytes: of the largest process among them.
        failure: why there is no product, or None.
    """

    cpu_s: float
    wall_s: float
    peak_rss_bytes: int
    failure: str | None = None


def spend(step: Step, log: Path) -> Cost:
    """Run one step into a log file; its product is removed first, so that an old one cannot stand in for it."""
    if step.product.is_dir():
        shutil.rmtree(step.product)
    else:
        step.product.unlink(missing_ok=True)
    for directory in (log.parent, step.product.parent):
        directory.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with log.open("wb") as stream:
        process = subprocess.Popen(step.command, stdout=stream, stderr=stream, env={**os.environ, **ENVIRONMENT})
        # wait4 alone tells this child's usage from that of those before it.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    failure = None
    if process.returncode != 0 or not step.product.exists():
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no message"]
        failure = f"exit code {process.returncode}: {lines[-1][:200]}"
    wall_s = time.perf_counter() - started
    return Cost(usage.ru_utime + usage.ru_stime, wall_s, usage.ru_maxrss * 1024, failure)


def total(recipe: Recipe, costs: Mapping[str, Cost]) -> Cost:
    """Add up what a recipe needed; the first failure among its steps is its own."""
    needed = [costs[name] for name in recipe.steps]
    return Cost(
        cpu_s=sum(cost.cpu_s for cost in needed),
        wall_s=sum(cost.wall_s for cost in needed),
        peak_rss_bytes=max(cost.peak_rss_bytes for cost in needed),
        failure=next((cost.failure for cost in needed if cost.failure), None),
    )


def build(steps: Sequence[Step], logs: Path, *, essential: bool = False) -> dict[str, Cost]:
    """Run steps in order; a failure is a finding about its builder.

    Raises:
        ConversionError: an `essential` step failed, without which there is nothing to compare.
    """
    costs = {}
    for step in steps:
        costs[step.name] = spend(step, logs / f"{step.name.replace(' ', '_').replace('/', '_')}.log")
        cost = costs[step.name]
        print(f"  {step.name:<44}{cost.cpu_s:>7.1f} s CPU  {cost.failure or ''}", flush=True)
        if essential and cost.failure:
            raise ConversionError(f"{step.name}: {cost.failure}", next_step=f"see '{logs}'")
    return costs


def loads(model: Path) -> str | None:
    """Return None where ONNX Runtime opens the file, else the reason; some tools write what nothing opens."""
    import onnxruntime

    try:
        onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no other base
        return first_line(error)[:200]
    return None


def as_json(costs: Mapping[str, Cost]) -> dict[str, Any]:
    """Turn costs into what `from_json` reads."""
    return {name: asdict(cost) for name, cost in costs.items()}


def from_json(tree: Mapping[str, Any]) -> dict[str, Cost]:
    """Read costs back."""
    return {name: Cost(**cost) for name, cost in tree.items()}
