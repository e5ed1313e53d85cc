"""Core ML program for the GPU and Neural Engine: floats, integers, k-means palettes; enumerated lengths."""

from __future__ import annotations

from typing import Literal, get_args

from stages.schema.variant import Float, Mixed, Palettized, Precision, Static, WeightOnly
from stages.targets.facts import Executor

SUPPORTED = (
    "float 16 or 32, weight_only wi8 or wi4 (granularity tensor, channel or block_32; wi4 and blocks from iOS18), "
    "palettized 2, 4, 6 or 8 (granularity tensor; from iOS18 with sparsity, or granularity channels_16 without), "
    "static wi8_ai8 (granularity tensor or channel, from iOS17), mixed (of float 16, weight_only and dense palettized)"
)
CONVERTED_WITH = ("coremltools", "torch")
QUANTIZED_WITH = ("coremltools",)
EXECUTED_WITH = ("coremltools", "numpy")
LIBRARY = "coremltools"
POSITION = "position"
"""Input of a language model's program: how many tokens came before."""
WIDE = "_wide"
"""What names of operations end with that compute in fp32 at every precision."""
LINEAR_LAYERS = ("linear", "conv")
"""Operations that a linear layer is, with its channels last or first."""
UNROUNDED = "unrounded"
"""Empty file beside a converted language model. Its states are fp16 as all that Core ML has, and they alone: it is run
without that rounding, as what nothing has rounded yet."""
ComputeUnits = Literal["ALL", "CPU_AND_GPU", "CPU_AND_NE", "CPU_ONLY"]
INTERPRETED = Executor(
    "reference-interpreted",
    "The saved Core ML program, interpreted op by op in numpy. It checks the artifact (graph, weights, precisions), "
    "not Apple's runtime: Core ML may fuse, reorder or place ops elsewhere. A time of the interpreter would say "
    "nothing about a phone, so latency is not measured.",
    "interpreted in numpy: Apple's runtime may fuse, reorder and round otherwise; a build on a Mac measures it",
    instead_of="Core ML",
)


def native(units: ComputeUnits) -> Executor:
    """Describe Core ML itself, with the processors it may choose from."""
    said = f"Core ML itself, on this Mac; compute units it may choose from: {units.lower().replace('_', ' ')}."
    return Executor(f"coreml-{units.lower()}", said)


EXECUTORS = (INTERPRETED, *(native(units) for units in get_args(ComputeUnits)))


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
