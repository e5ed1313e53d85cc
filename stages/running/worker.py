"""Run one artifact in a process of its own, which imports numpy and one runtime and nothing else heavy.

Reads: a request, an artifact, splits.
Writes: `receipt.json`: raw samples in milliseconds, load time, the process's own peak memory, and what its answers are
    compared with the reference's; `items.npz`, `answers.npz`.
Why: another process would lend the artifact its memory, its warm caches and its garbage collector, and end with it.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from stages.core import artifact, cli
from stages.core.errors import InputError
from stages.core.params import parse
from stages.running.runner import ANSWERS, RECEIPT, Receipt, Request
from stages.schema.measured import Compared
from stages.targets import registry
from stages.targets.base import Session, read_signature
from stages.targets.facts import facts
from stages.tasks import registry as tasks
from stages.tasks.base import IDS, State, Timed

Calls = Mapping[str, Sequence[Timed]]
"""Kind → the calls of all texts."""
STATUS = Path("/proc/self/status")


def read_split(path: Path, count: int | None = None) -> dict[str, NDArray[Any]]:
    """Read the first `count` texts of a split (all, where there are fewer).

    Raises:
        ArtifactError: the file is unreadable.
        InputError: it holds no text.
    """
    split = {name: rows[:count] for name, rows in artifact.read_arrays(path).items()}
    if not all(map(len, split.values())):
        raise InputError(f"'{path}' holds no text", expected="at least one")
    return split


def sample(session: Session, calls: Calls, warmup: int, repetitions: int) -> dict[str, list[float]]:
    """Time single calls, round robin over the texts, the kinds interleaved.

    Interleaved, and in alternating order, so that a change of the host's speed and the caches that the other
    kind leaves behind fall on all alike.

    Args:
        session: the opened artifact.
        calls: what to time.
        warmup: runs of each kind that are not recorded.
        repetitions: recorded runs of each kind.

    Returns:
        Milliseconds per run by kind, each [repetitions].
    """
    samples: dict[str, list[float]] = {kind: [] for kind in calls}
    states: dict[str, State] = {}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(-warmup, repetitions):
            for kind in calls if turn % 2 == 0 else reversed(list(calls)):
                one = calls[kind][turn % len(calls[kind])]
                if not one.goes_on or kind not in states:
                    states[kind] = session.new_state()
                    if one.before is not None:
                        session.run(one.call, one.before, states[kind])
                start = time.perf_counter_ns()
                session.run(one.call, one.inputs, states[kind])
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


def work(request: Request, directory: Path, inputs: Path, out: Path) -> Receipt:
    """Open an artifact, time it, and let it answer: see `Runner.run`."""
    module = registry.runtime(request.target)
    timing, calls = request.time, dict[str, Sequence[Timed]]()
    if timing is not None:
        # Before the clock starts: an app links its runtime and pays for opening the artifact alone.
        importlib.import_module(facts(request.target).LIBRARY)
        exercise = tasks.exercise(read_signature(directory).task)
        calls |= exercise.timed(read_split(inputs / f"{timing.split}.npz", timing.texts))
    start = time.perf_counter_ns()
    session = module.open_runtime(directory, request.threads)
    load_time_ms = (time.perf_counter_ns() - start) / 1e6
    samples = {} if timing is None else sample(session, calls, timing.warmup, timing.repetitions)
    peak = peak_rss_bytes()
    compared: Compared = {}
    if request.answer is not None:
        from stages.measure import items
        from stages.targets import answers

        compared, records, logits = answers.answer(session, directory, inputs, request.answer)
        if request.answer.saturation:
            compared["saturation"] = module.saturation(directory, read_split(inputs / f"{answers.PROBE}.npz"))
        artifact.write_arrays(out / items.ITEMS, items.arrays(records))
        artifact.write_arrays(out / ANSWERS, logits)
    return {
        "compared": compared,
        "load_time_ms": load_time_ms,
        "peak_rss_bytes": peak,
        "runtime": session.label,
        "runtime_versions": module.versions(),
        "samples_ms": samples,
        "tokens": {kind: found[0].inputs[IDS].shape[1] for kind, found in calls.items()},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("request", "artifact", "inputs", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)

    def body(arguments: argparse.Namespace) -> None:
        request = parse(Request, artifact.read_json(arguments.request), str(arguments.request))
        receipt = work(request, arguments.artifact, arguments.inputs, arguments.out)
        artifact.write_json(arguments.out / RECEIPT, receipt)

    return cli.execute(parser, argv, body)


if __name__ == "__main__":
    sys.exit(main())
