"""Time one artifact in a process of its own, which imports numpy and one runtime and nothing else heavy.

Reads: an artifact, probe inputs.
Writes: raw samples in milliseconds, load time and the process's own peak memory, as JSON.
Why: the benchmark's own process would lend the artifact its memory, its warm caches and its garbage collector.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import resource
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact, cli
from stages.core.errors import InputError
from stages.schema.variant import TargetName
from stages.targets import registry
from stages.targets.base import Inputs, Session
from stages.targets.facts import facts
from stages.tasks.base import FORWARD, INPUTS

KINDS = ("true_length", "full_length")
STATUS = Path("/proc/self/status")


def utterances(path: Path, count: int) -> list[dict[str, Inputs]]:
    """Read the first `count` probe utterances (all, where there are fewer).

    Returns:
        Per utterance its inputs, int32 [1, n], at `true_length` (no padding) and at `full_length`.

    Raises:
        InputError: the file is unreadable or holds no utterance.
    """
    try:
        with np.load(path) as arrays:
            split: dict[str, NDArray[np.int32]] = {name: arrays[name][:count] for name in INPUTS}
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"cannot read probe inputs '{path}': {error}", next_step="run `dvc repro`") from error
    lengths = split["attention_mask"].sum(axis=1)
    if not len(lengths):
        raise InputError(f"'{path}' holds no utterance", expected="at least one")
    return [
        {
            # Copies: a row of a larger array is not where a caller's own buffer would lie.
            "true_length": {name: split[name][row : row + 1, :length].copy() for name in INPUTS},
            "full_length": {name: split[name][row : row + 1].copy() for name in INPUTS},
        }
        for row, length in enumerate(lengths)
    ]


def sample(
    session: Session, rows: Sequence[dict[str, Inputs]], warmup: int, repetitions: int
) -> dict[str, list[float]]:
    """Time single utterances, round robin over `rows`, the two lengths interleaved.

    Interleaved, and in alternating order, so that a change of the host's speed and the caches that the other
    length leaves behind fall on both alike.

    Args:
        session: the opened artifact.
        rows: see `utterances`.
        warmup: runs of each length that are not recorded.
        repetitions: recorded runs of each length.

    Returns:
        Milliseconds per run, `true_length` and `full_length`, each [repetitions].
    """
    samples: dict[str, list[float]] = {kind: [] for kind in KINDS}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(-warmup, repetitions):
            row = rows[turn % len(rows)]
            for kind in KINDS if turn % 2 == 0 else reversed(KINDS):
                start = time.perf_counter_ns()
                session.run(FORWARD, row[kind])
                elapsed = time.perf_counter_ns() - start
                if turn >= 0:
                    samples[kind].append(elapsed / 1e6)
    finally:
        if collecting:
            gc.enable()
    return samples


def peak_rss_bytes() -> int:
    """Return the most memory this process has held, in bytes.

    VmHWM where there is one: on Linux `ru_maxrss` survives exec and would report the parent's memory.
    """
    if STATUS.is_file():
        for line in STATUS.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measure(
    target: str, directory: Path, inputs: Path, *, threads: int, warmup: int, repetitions: int, count: int
) -> dict[str, Any]:
    """Open an artifact and time it.

    Args:
        target: whose runtime to use.
        directory: the artifact.
        inputs: `probe.npz` of the reference.
        threads: for the runtime.
        warmup: unrecorded runs of each length.
        repetitions: recorded runs of each length.
        count: probe utterances to take turns with.

    Returns:
        `samples_ms`, `load_time_ms`, `peak_rss_bytes`, `runtime`, `runtime_versions`, `threads`, `utterances`.
    """
    rows = utterances(inputs, count)
    module = registry.runtime(target)
    # Before the clock starts: an app links its runtime and pays for opening the artifact alone.
    importlib.import_module(facts(target).LIBRARY)
    start = time.perf_counter_ns()
    session = module.open_runtime(directory, threads)
    load_time_ms = (time.perf_counter_ns() - start) / 1e6
    samples = sample(session, rows, warmup, repetitions)
    return {
        "load_time_ms": load_time_ms,
        "peak_rss_bytes": peak_rss_bytes(),
        "runtime": session.label,
        "runtime_versions": module.versions(),
        "samples_ms": samples,
        "threads": threads,
        "utterances": len(rows),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", required=True, choices=get_args(TargetName))
    for name in ("artifact", "inputs", "json"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("threads", "warmup", "repetitions", "utterances"):
        parser.add_argument(f"--{name}", type=int, required=True)
    return cli.execute(
        parser,
        argv,
        lambda arguments: artifact.write_json(
            arguments.json,
            measure(
                arguments.target,
                arguments.artifact,
                arguments.inputs,
                threads=arguments.threads,
                warmup=arguments.warmup,
                repetitions=arguments.repetitions,
                count=arguments.utterances,
            ),
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
