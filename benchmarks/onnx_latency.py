"""Time ONNX models of one checkpoint against each other, interleaved in one process.

    python -m benchmarks.onnx_latency before=old/model.onnx after=build/artifact/onnx-cpu-fp32/model.onnx

Every utterance of random ids is run through every model before the next, so that a slow moment of the host hits all
of them. A model is so many times faster than the first one: the median over utterances, with its bootstrap interval.
The minimum is the figure that load disturbs least.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.measure.statistics import bootstrap_quantile

SMALLEST_VOCABULARY = 1000


def open_session(path: Path) -> Any:
    """Open a model on one thread, as an app on a phone would."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def feed(session: Any, ids: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Give a model what it asks for, whatever it calls and types it: ids, a mask of ones, token types of zeros."""
    values = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    types = {"tensor(int32)": np.int32, "tensor(int64)": np.int64}
    return {item.name: values[item.name].astype(types[item.type]) for item in session.get_inputs()}


def interleave(sessions: dict[str, Any], tokens: int, utterances: int) -> dict[str, NDArray[np.float64]]:
    """Run utterances of one length through every model in turn, each twice; the second run counts.

    Returns:
        Model → milliseconds, [utterances].
    """
    random = np.random.default_rng(0)
    times = {name: np.empty(utterances) for name in sessions}
    for at in range(utterances):
        ids = random.integers(5, SMALLEST_VOCABULARY, (1, tokens))
        for name, session in sessions.items():
            inputs = feed(session, ids)
            session.run(None, inputs)
            started = time.perf_counter_ns()
            session.run(None, inputs)
            times[name][at] = (time.perf_counter_ns() - started) / 1e6
    return times


def main() -> int:
    """Open, interleave, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME=PATH")
    parser.add_argument("--tokens", type=int, nargs="+", default=[12, 64])
    parser.add_argument("--utterances", type=int, default=300)
    arguments = parser.parse_args()
    paths = {name: Path(path) for name, _, path in (item.partition("=") for item in arguments.models)}
    sessions = {name: open_session(path) for name, path in paths.items()}
    for tokens in arguments.tokens:
        times = interleave(sessions, tokens, arguments.utterances)
        base = next(iter(times.values()))
        print(f"\n{tokens} tokens{'':<22}{'MB':>7}{'min ms':>9}{'p50 ms':>9}{'times faster [95 %]':>24}")
        for name, found in times.items():
            ratio, (low, high) = bootstrap_quantile(base / found, 0.5)
            size = paths[name].stat().st_size / 1e6
            row = f"{name:<30}{size:>8.3f}{found.min():>9.3f}{np.median(found):>9.3f}"
            print(f"{row}{ratio:>10.2f} [{low:.2f}, {high:.2f}]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
