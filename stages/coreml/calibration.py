"""Activation ranges for static int8 where Core ML cannot run: the executor in place of coremltools' `predict`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from stages.coreml.dtypes import Array
from stages.coreml.errors import Mismatch
from stages.coreml.ir import Named, Operation
from stages.coreml.program import Program


class Ranges:
    """An observer that keeps the smallest and largest value of every floating-point tensor, over all runs."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[float, float]] = {}

    def __call__(self, operation: Operation, named: Named, raw: Array, stored: Array) -> None:
        """Widen the range of one tensor.

        Raises:
            Mismatch: a value that is infinite or no number, from which no scale follows.
        """
        del raw
        if stored.dtype.kind != "f" or not stored.size:
            return
        low, high = float(stored.min()), float(stored.max())
        if not np.isfinite([low, high]).all():
            raise Mismatch(f"{operation}: values between {low} and {high}", expected="finite ones to calibrate with")
        before = self.found.get(named.name, (low, high))
        self.found[named.name] = (min(low, before[0]), max(high, before[1]))


def calibrate(program: Program, samples: Iterable[Mapping[str, Array]]) -> dict[str, tuple[float, float]]:
    """Run samples and return each tensor's range.

    Args:
        program: the fp16 or fp32 program that is to be quantised.
        samples: inputs of one run each.

    Raises:
        Mismatch: a tensor overflows, or a sample does not fit the program.
    """
    ranges = Ranges()
    for sample in samples:
        program.run(sample, "declared", observe=ranges)
    return ranges.found


@contextmanager
def standing_in_for_predict(program: Program) -> Iterator[None]:
    """Let `linear_quantize_activations` calibrate on a host without Core ML.

    Before: coremltools' `ModelDebugger.step` adds every intermediate tensor to the outputs and calls `predict`, which
    raises off macOS. After: the executor runs the program and records ranges, accumulated over samples (coremltools
    9.0 itself keeps only the last sample's range of the inputs; its pull request 2724).

    Args:
        program: opened from the same package as the model to be quantised, so that tensors have the same names.
    """
    from coremltools.optimize.coreml.experimental._model_debugger import ModelDebugger

    ranges = Ranges()

    def step(_self: Any, inputs: Mapping[str, Array], activation_stats_dict: Any, *_: Any, **__: Any) -> None:
        program.run(inputs, "declared", observe=ranges)
        for name, (low, high) in ranges.found.items():
            activation_stats_dict[name] = {"rmin": low, "rmax": high}

    original = ModelDebugger.step
    ModelDebugger.step = step
    try:
        yield
    finally:
        ModelDebugger.step = original
