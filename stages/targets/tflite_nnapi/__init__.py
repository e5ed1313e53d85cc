"""LiteRT (TensorFlow Lite): one file, one signature per sequence length, graphs an NNAPI delegate can take whole."""

from __future__ import annotations

from stages.schema.variant import Dynamic, Float, Mixed, Precision, Static, WeightOnly
from stages.targets.facts import Executor

SUPPORTED = (
    "float 16 (weights; computed in 32) or 32, dynamic wi8 (granularity tensor or channel) or wi4 (also block_32), "
    "weight_only wi8 (granularity tensor or channel), static wi8_ai8 or wi8_ai16 (granularity tensor: NNAPI has no "
    "per-channel scales for FULLY_CONNECTED), mixed (of float 32 and dynamic ones)"
)
CONVERTED_WITH = ("litert-torch", "torch")
QUANTIZED_WITH = ("ai-edge-quantizer", "ai-edge-litert")
EXECUTED_WITH = ("ai-edge-litert",)
LIBRARY = "ai_edge_litert.interpreter"
LITERT = "litert-cpu-xnnpack"
EXECUTORS = (
    Executor(
        LITERT,
        "LiteRT's own CPU kernels (XNNPACK), the ones an Android app falls back to when no accelerator takes an op. "
        "NNAPI itself is not on this host.",
        "measured on LiteRT's CPU kernels: an NNAPI driver, or TensorFlow Lite of another age, may round otherwise "
        "(`make tensorflow-check` asks TensorFlow's)",
    ),
)


def supports(precision: Precision) -> bool:
    """Tell whether `quantize` can lower to this precision."""
    match precision:
        case Float() | Dynamic(weight_bits=4) | Static(weight_bits=8, granularity="tensor"):
            return True
        case Dynamic(weight_bits=8) | WeightOnly(weight_bits=8):
            return precision.granularity != "block_32"
        case Mixed():
            return all(supports(one) and _is_mixable(one) for one in (precision.low, precision.high))
        case _:
            return False


def _is_mixable(precision: Precision) -> bool:
    """Whether weights at this precision stand beside others: those that are expanded before use get other names."""
    return isinstance(precision, Dynamic) or precision == Float(kind="float", bits=32)


def reason(precision: Precision) -> str:
    """Say, for an error message, why a precision that the tools would write is not supported; else nothing."""
    match precision:
        case Dynamic(weight_bits=2):
            return ": LiteRT refuses 2-bit weights when it opens the file (XNNPACK has no INT2)"
        case Dynamic(granularity="block_32") | WeightOnly(granularity="block_32"):
            return ": ai-edge-quantizer leaves such weights in float without a word"
        case WeightOnly(weight_bits=4):
            return ": LiteRT expands 4-bit weights anew in every call, which dynamic wi4 of the same size does not"
        case _:
            return ""
