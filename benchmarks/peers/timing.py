"""Time many models in turns, so that a slow moment of the host falls on all of them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.measure.statistics import bootstrap_quantile

RUNS = 3
"""Recorded runs per turn, of which the fastest counts; one before them fills the caches that other models emptied."""
DTYPES = {"tensor(int32)": np.int32, "tensor(int64)": np.int64}

Samples = NDArray[np.float64]
Tokens = NDArray[np.int32]


@dataclass(frozen=True)
class Contender:
    """Something that answers token ids, all of them valid.

    Attributes:
        feed: turns ids, int32 [1, n], into what `run` takes; not timed, an app would do it while it tokenises.
        run: computes logits [1, labels].
    """

    feed: Callable[[Tokens], Any]
    run: Callable[[Any], Any]


def open_model(model: Path) -> Contender:
    """Open any ONNX classifier on one thread, with the same options for all."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    inputs = {item.name: DTYPES[item.type] for item in session.get_inputs()}

    def feed(ids: Tokens) -> dict[str, NDArray[Any]]:
        values = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        return {name: values[name].astype(dtype) for name, dtype in inputs.items()}

    return Contender(feed, lambda inputs: session.run(None, inputs)[0])


def open_torch(checkpoint: Path) -> Contender:
    """Open a checkpoint in eager torch on one thread, as `from_pretrained` gives it."""
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.set_num_threads(1)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()

    def feed(ids: Tokens) -> dict[str, Any]:
        tensor = torch.from_numpy(ids.astype(np.int64))
        return {"input_ids": tensor, "attention_mask": torch.ones_like(tensor)}

    def run(inputs: dict[str, Any]) -> Any:
        with torch.inference_mode():
            return model(**inputs).logits.numpy()

    return Contender(feed, run)


def interleave(contenders: Mapping[str, Contender], utterances: Sequence[Tokens], rounds: int) -> dict[str, Samples]:
    """Let every contender answer every utterance in turn, each round beginning with another one.

    Returns:
        key → milliseconds, [rounds × utterances]; the same index is the same turn for all.
    """
    keys = list(contenders)
    samples: dict[str, list[float]] = {key: [] for key in keys}
    feeds = [{key: contenders[key].feed(ids) for key in keys} for ids in utterances]
    gc.disable()
    try:
        for turn, feed in enumerate(feeds * rounds):
            for key in keys[turn % len(keys) :] + keys[: turn % len(keys)]:
                run, inputs = contenders[key].run, feed[key]
                run(inputs)
                samples[key].append(min(_milliseconds(run, inputs) for _ in range(RUNS)))
    finally:
        gc.enable()
    return {key: np.array(values) for key, values in samples.items()}


def _milliseconds(run: Callable[[Any], Any], inputs: Any) -> float:
    started = time.perf_counter_ns()
    run(inputs)
    return (time.perf_counter_ns() - started) / 1e6


def describe(samples: Samples) -> dict[str, float]:
    """Minimum and quantiles of one contender's turns."""
    quantiles = np.quantile(samples, [0.1, 0.5, 0.9, 0.99])
    return dict(zip(("min", "p10", "p50", "p90", "p99"), map(float, (samples.min(), *quantiles)), strict=True))


def compare(slow: Samples, fast: Samples) -> dict[str, Any]:
    """How many times faster `fast` is: the median over turns of the ratio within a turn, with a 95 % interval.

    Returns:
        `ratio`, `interval`, and `ratio_of_minima`, which noise hardly touches.
    """
    ratio, interval = bootstrap_quantile(slow / fast, 0.5)
    return {"ratio": ratio, "interval": list(interval), "ratio_of_minima": float(slow.min() / fast.min())}
