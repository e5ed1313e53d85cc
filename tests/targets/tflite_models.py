"""Two-layer TFLite models of every precision, for the tests of tflite-nnapi."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stages.measure.metrics import compare, measure_parity
from stages.schema.task import Task
from stages.schema.variant import Dynamic, Float, Mixed, Precision, Static, TfliteNnapi, WeightOnly
from stages.targets.tflite_nnapi import quantize
from stages.targets.tflite_nnapi.runtime import open_runtime
from tests.targets.running import logits_of
from tests.toys.targets import tflite

TASK = Task(name="classify", max_length=16, sequence_lengths=[8, 16])
ONE_LENGTH = Task(name="classify", max_length=16, sequence_lengths=[16])
TARGET = tflite()
SMALL_TARGET = tflite(static_embedding_bits=8)
WHOLE_TARGET = tflite(static_normalisation_bits=8)
WIDE_STATIC = Static(kind="static", weight_bits=8, activation_bits=16, granularity="tensor")
STATIC = Static(kind="static", weight_bits=8, activation_bits=8, granularity="tensor")
FLOAT = Float(kind="float", bits=32)
MIXED = Mixed(
    kind="mixed",
    low=Dynamic(kind="dynamic", weight_bits=4, granularity="block_32"),
    high=Dynamic(kind="dynamic", weight_bits=8, granularity="channel"),
    among="all",
    kl_budget=0.02,
    utterances=8,
)
PRECISIONS: dict[str, tuple[Precision, TfliteNnapi]] = {
    "float": (FLOAT, TARGET),
    "dynamic-channel": (Dynamic(kind="dynamic", weight_bits=8, granularity="channel"), TARGET),
    "dynamic-tensor": (Dynamic(kind="dynamic", weight_bits=8, granularity="tensor"), TARGET),
    "weight-only-channel": (WeightOnly(kind="weight_only", weight_bits=8, granularity="channel"), TARGET),
    "weight-only-tensor": (WeightOnly(kind="weight_only", weight_bits=8, granularity="tensor"), TARGET),
    "static": (STATIC, TARGET),
    "static-small": (STATIC, SMALL_TARGET),
    "static-whole": (STATIC, WHOLE_TARGET),
    "float16": (Float(kind="float", bits=16), TARGET),
    "four-channel": (Dynamic(kind="dynamic", weight_bits=4, granularity="channel"), TARGET),
    "four-block": (Dynamic(kind="dynamic", weight_bits=4, granularity="block_32"), TARGET),
    "mixed": (MIXED, TARGET),
    "static-wide": (WIDE_STATIC, TARGET),
    "static-wide-small": (WIDE_STATIC, SMALL_TARGET),
}


def utterances(count: int, seed: int = 0, shortest: int = 3) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    ids = random.integers(5, 49, (count, TASK.max_length)).astype(np.int32)
    mask = (np.arange(TASK.max_length) < random.integers(shortest, TASK.max_length + 1, (count, 1))).astype(np.int32)
    return {"input_ids": ids * mask, "attention_mask": mask}


def run_all(directory: Path, inputs: dict[str, Any]) -> Any:
    return logits_of(open_runtime(directory, threads=1), inputs)


def agreement(reference: Any, outputs: Any) -> dict[str, float]:
    """What parity says of two models' logits."""
    count = len(reference)
    return measure_parity(compare(reference, [outputs], np.arange(count), np.full(count, -1)))[0]


def lowered(converted: Path, name: str, out: Path) -> tuple[Path, dict[str, Any]]:
    precision, target = PRECISIONS[name]
    out.mkdir(parents=True, exist_ok=True)
    return out, quantize.quantize(converted, precision, utterances(32, seed=1), target, out)
