"""Core ML program for the GPU and Neural Engine: floats, integers, k-means palettes; enumerated lengths."""

from __future__ import annotations

from stages.schema.variant import Float, Mixed, Palettized, Precision, Static, WeightOnly

SUPPORTED = (
    "float 16 or 32, weight_only wi8 or wi4 (granularity tensor, channel or block_32; wi4 and blocks from iOS18), "
    "palettized 2, 4, 6 or 8 (granularity tensor; from iOS18 with sparsity, or granularity channels_16 without), "
    "static wi8_ai8 (granularity tensor or channel, from iOS17), mixed (of float 16, weight_only and dense palettized)"
)


def supports(precision: Precision) -> bool:
    """Tell whether `quantize` can lower to this precision."""
    match precision:
        case Float() | WeightOnly() | Static(activation_bits=8):
            return True
        case Palettized():
            return precision.granularity == "tensor" or not precision.sparsity
        case Mixed():
            return all(_is_mixable(one) for one in (precision.low, precision.high))
        case _:
            return False


def _is_mixable(precision: Precision) -> bool:
    """Whether weights at this precision can stand in one program beside others."""
    match precision:
        case Float(bits=16) | WeightOnly() | Palettized(sparsity=0):
            return True
        case _:
            return False
