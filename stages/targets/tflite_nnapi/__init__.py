"""LiteRT (TensorFlow Lite): one file, one signature per sequence length, graphs an NNAPI delegate can take whole."""

from __future__ import annotations

from stages.schema.variant import Dynamic, Float, Precision, Static, WeightOnly

SUPPORTED = (
    "float 32, dynamic wi8, weight_only wi8 (granularity tensor or channel), static wi8_ai8 (granularity tensor: "
    "NNAPI has no per-channel scales for FULLY_CONNECTED)"
)


def supports(precision: Precision) -> bool:
    """Tell whether `quantize` can lower to this precision."""
    match precision:
        case Float(bits=32) | Dynamic(weight_bits=8) | WeightOnly(weight_bits=8, granularity="tensor" | "channel"):
            return True
        case Static(weight_bits=8, activation_bits=8, granularity="tensor"):
            return True
        case _:
            return False
