"""Core ML program for the GPU and Neural Engine: floats, integer weights, k-means palettes; enumerated lengths."""

from __future__ import annotations

from stages.schema.variant import Float, Palettized, Precision, WeightOnly

SUPPORTED = "float 16 or 32, weight_only wi8 (wi4 from iOS18; granularity tensor or channel), palettized 2, 4, 6 or 8"


def supports(precision: Precision) -> bool:
    """Tell whether `quantize` can lower to this precision."""
    match precision:
        case Float() | Palettized() | WeightOnly(granularity="tensor" | "channel"):
            return True
        case _:
            return False
