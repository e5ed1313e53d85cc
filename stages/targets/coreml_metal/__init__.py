"""Core ML program for the GPU and Neural Engine: floats, integers, k-means palettes; enumerated lengths."""

from __future__ import annotations

from stages.schema.variant import Float, Palettized, Precision, Static, WeightOnly

SUPPORTED = (
    "float 16 or 32, weight_only wi8 or wi4 (granularity tensor, channel or block_32; wi4 and blocks from iOS18), "
    "palettized 2, 4, 6 or 8 (granularity tensor; from iOS18 with sparsity, or granularity channels_16 without), "
    "static wi8_ai8 (granularity tensor or channel, from iOS17)"
)


def supports(precision: Precision) -> bool:
    """Tell whether `quantize` can lower to this precision."""
    match precision:
        case Float() | WeightOnly() | Static(activation_bits=8):
            return True
        case Palettized():
            return precision.granularity == "tensor" or not precision.sparsity
        case _:
            return False
