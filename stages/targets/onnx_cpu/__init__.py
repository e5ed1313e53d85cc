"""ONNX Runtime on a CPU: fp32, dynamic int8 and static QDQ int8, any sequence length without padding."""

from __future__ import annotations

from stages.schema.variant import Dynamic, Float, Precision, Static

FUSED = "fused.json"
"""Beside a converted model: how often each rewrite of `fuse` applied."""
SUPPORTED = "float 32, dynamic wi8, static wi8_ai8 (granularity tensor or channel)"


def supports(precision: Precision) -> bool:
    """Tell whether `quantize` can lower to this precision."""
    match precision:
        case Float(bits=32) | Static(weight_bits=8, activation_bits=8):
            return True
        case Dynamic(weight_bits=8, granularity="tensor" | "channel"):
            return True
        case _:
            return False
