"""LiteRT (TensorFlow Lite): one file, one signature per sequence length, graphs an NNAPI delegate can take whole."""

from __future__ import annotations

from stages.schema.variant import Dynamic, Float, Precision, Static, WeightOnly

SUPPORTED = (
    "float 16 (weights; computed in 32) or 32, dynamic wi8 (granularity tensor or channel) or wi4 (also block_32), "
    "weight_only wi8 (granularity tensor or channel), static wi8_ai8 or wi8_ai16 (granularity tensor: NNAPI has no "
    "per-channel scales for FULLY_CONNECTED)"
)


def supports(precision: Precision) -> bool:
    """Tell whether `quantize` can lower to this precision."""
    match precision:
        case Float() | Dynamic(weight_bits=4) | Static(weight_bits=8, granularity="tensor"):
            return True
        case Dynamic(weight_bits=8) | WeightOnly(weight_bits=8):
            return precision.granularity != "block_32"
        case _:
            return False


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
