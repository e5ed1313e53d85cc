"""ONNX Runtime on a CPU: one graph for any batch and sequence length, without padding."""

from __future__ import annotations

from stages.schema.variant import Dynamic, Float, Gptq, Mixed, Precision, SourceBlocks, Static, WeightOnly
from stages.targets.facts import Executor

FUSED = "fused.json"
"""Beside a converted model: how often each rewrite of `fuse` applied."""
SUPPORTED = (
    "float 16 or 32, dynamic wi8, static wi8_ai8, weight_only wi8 (granularity tensor or channel), "
    "dynamic, weight_only or gptq wi4 (block_32), source (block_32), mixed (of all but static, gptq and source)"
)
CONVERTED_WITH = ("onnx", "onnxscript", "torch")
QUANTIZED_WITH = ("onnx", "onnxruntime")
EXECUTED_WITH = ("onnxruntime",)
LIBRARY = "onnxruntime"
ORT = "onnxruntime-cpu"
EXECUTORS = (Executor(ORT, "ONNX Runtime's CPU kernels: what ships is what ran."),)


def supports(precision: Precision) -> bool:
    """Tell whether `quantize` can lower to this precision."""
    match precision:
        case (
            Float()
            | Gptq()
            | SourceBlocks()
            | Static(weight_bits=8, activation_bits=8)
            | WeightOnly(weight_bits=4, granularity="block_32")
        ):
            return True
        case Dynamic(weight_bits=8, granularity="tensor" | "channel") | Dynamic(weight_bits=4, granularity="block_32"):
            return True
        case WeightOnly(weight_bits=8, granularity="tensor" | "channel"):
            return True
        case Mixed():
            return supports(precision.low) and supports(precision.high)
        case _:
            return False
