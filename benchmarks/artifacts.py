"""Time the built artifacts against each other, interleaved in one process.

    python -m benchmarks.artifacts --build build

One utterance after another is run through every artifact before the next, so that a slow moment of the host hits all
of them; ratios are medians of per-utterance ratios to the target's fp32 artifact, with bootstrap intervals.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact
from stages.measure.statistics import bootstrap_quantile
from stages.targets import registry
from stages.targets.base import Session
from stages.tasks.base import FORWARD


def interleave(
    runtimes: dict[str, Session], split: dict[str, NDArray[np.int32]], rounds: int
) -> dict[str, NDArray[np.float64]]:
    """Run every utterance through every artifact, in turn.

    Args:
        runtimes: key → opened artifact.
        split: `input_ids` and `attention_mask`, int32 [n, max_length].
        rounds: passes over the split; the fastest of each utterance's runs is kept.

    Returns:
        key → milliseconds per utterance, [n].
    """
    lengths = split["attention_mask"].sum(axis=1)
    fastest = {key: np.full(len(lengths), np.inf) for key in runtimes}
    for _ in range(rounds):
        for index, length in enumerate(lengths):
            inputs = {name: split[name][index : index + 1, :length] for name in ("input_ids", "attention_mask")}
            for key, runtime in runtimes.items():
                started = time.perf_counter_ns()
                runtime.run(FORWARD, inputs)
                elapsed = (time.perf_counter_ns() - started) / 1e6
                fastest[key][index] = min(fastest[key][index], elapsed)
    return fastest


def main() -> int:
    """Open what can be timed here, interleave, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    entries = artifact.read_json(arguments.build / "verdicts.json")["variants"]
    runtimes: dict[str, Session] = {}
    for key, entry in entries.items():
        module = registry.runtime(entry["target"])
        reason = module.timing_unavailable()
        if reason is None:
            runtimes[key] = module.open_runtime(arguments.build / "artifact" / key, threads=1)
        else:
            print(f"{key}: not measured: {reason}")
    compression = next(entry["compression"] for entry in entries.values())
    probe = artifact.read_arrays(arguments.build / "reference" / compression / "probe.npz")
    times = interleave(runtimes, probe, arguments.rounds)
    print(f"\n{'variant':<36}{'verdict':<14}{'p50 ms':>8}{'ratio to fp32 [95 %]':>26}")
    for key, milliseconds in times.items():
        base = times.get(f"{entries[key]['target']}-fp32", milliseconds)
        ratio, (low, high) = bootstrap_quantile(milliseconds / base, 0.5)
        row = f"{key:<36}{entries[key]['verdict']:<14}{np.median(milliseconds):>8.3f}"
        print(f"{row}{ratio:>10.3f} [{low:.3f}, {high:.3f}]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
