"""Time the built artifacts against each other, interleaved in one process.

    python -m benchmarks.artifacts --build build

One call after another is run by every artifact before the next, so that a slow moment of the host hits all of them: a
classifier's utterance, a language model's token behind nothing, behind half of its room, at its end, and a prompt that
fills it. What counts is this process's CPU time, one thread each. Ratios are medians of per-call ratios to the target's
fp32 artifact, with bootstrap intervals.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact
from stages.measure.statistics import bootstrap_quantile
from stages.targets import registry
from stages.targets.base import Session, read_signature
from stages.tasks import registry as tasks
from stages.tasks.base import State, Timed


def interleave(runtimes: Mapping[str, Session], calls: Sequence[Timed], rounds: int) -> dict[str, NDArray[np.float64]]:
    """Run every call through every artifact, in turn.

    Args:
        runtimes: key → opened artifact.
        calls: of one kind, see `Timed`.
        rounds: passes over the calls; the fastest of each call's runs is kept.

    Returns:
        key → processor milliseconds per call, [n].
    """
    fastest = {key: np.full(len(calls), np.inf) for key in runtimes}
    states: dict[str, State] = {}
    for _ in range(rounds):
        for index, timed in enumerate(calls):
            for key, runtime in runtimes.items():
                if not timed.goes_on:
                    states[key] = runtime.new_state()
                    if timed.before is not None:
                        runtime.run(timed.call, timed.before, states[key])
                started = time.process_time_ns()
                runtime.run(timed.call, timed.inputs, states[key])
                elapsed = (time.process_time_ns() - started) / 1e6
                fastest[key][index] = min(fastest[key][index], elapsed)
    return fastest


def main() -> int:
    """Open what can be timed here, interleave, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--texts", type=int, default=64, help="of the probe split, at most")
    arguments = parser.parse_args()
    entries = artifact.read_json(arguments.build / "verdicts.json")["variants"]
    runtimes: dict[str, Session] = {}
    task = ""
    for key, entry in entries.items():
        module, place = registry.runtime(entry["target"]), arguments.build / "artifact" / key
        reason, task = module.timing_unavailable(), read_signature(place).task
        if reason is None:
            runtimes[key] = module.open_runtime(place, threads=1)
        else:
            print(f"{key}: not measured: {reason}")
    compression = next(entry["compression"] for entry in entries.values())
    probe = artifact.read_arrays(arguments.build / "reference" / compression / "probe.npz")
    chosen = {name: values[: arguments.texts] for name, values in probe.items()}
    for kind, calls in tasks.exercise(task).timed(chosen).items():
        times = interleave(runtimes, calls, arguments.rounds)
        print(f"\n{kind:<36}{'verdict':<14}{'p50 ms':>8}{'ratio to fp32 [95 %]':>26}")
        for key, milliseconds in times.items():
            base = times.get(f"{entries[key]['target']}-fp32", milliseconds)
            ratio, (low, high) = bootstrap_quantile(milliseconds / base, 0.5)
            row = f"{key:<36}{entries[key]['verdict']:<14}{np.median(milliseconds):>8.3f}"
            print(f"{row}{ratio:>10.3f} [{low:.3f}, {high:.3f}]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
