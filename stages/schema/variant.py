"""conf/target, conf/precision, conf/variant: what is built, for which platform, at which precision."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stages.core.params import Section

TargetName = Literal["tflite-nnapi", "coreml-metal", "onnx-cpu"]


class OnnxCpu(Section):
    """ONNX Runtime on a CPU."""

    name: Literal["onnx-cpu"]
    opset: Annotated[int, Field(ge=17, le=23)]


class TfliteNnapi(Section):
    """LiteRT, one signature per sequence length."""

    name: Literal["tflite-nnapi"]
    static_embedding_bits: Literal[8, 32]
    """Of lookup tables at static precisions. NNAPI takes float tables only: 8 shrinks the file and leaves the lookup
    to the CPU."""
    static_normalisation_bits: Literal[8, 32]
    """Of normalisations, and of the sums that they normalise, at static precisions: 8 stands for the activations' own
    bits. What a pretrained checkpoint carries from layer to layer has outliers that one scale for all of it loses, and
    NNAPI takes an RSQRT of integers from feature level 7 only (docs/precisions.md)."""
    tanh_gelu: Literal["factored", "operator"]
    """How a GELU of the tanh form is written: as x·σ(x·(a + b·x²)), the same numbers by operators that NNAPI and
    tflite-micro have, or as the operator GELU, which they lack. What an error function says only a compression can
    (`approximate_gelu`)."""
    cache_update: Literal["in_place", "arithmetic"]
    """How a decoder's new keys and values come among those kept: by an operator that writes in place, which NNAPI
    lacks, or by products with 0 and 1 and a sum, the same numbers by operators that it has."""


class CoremlMetal(Section):
    """Core ML program with enumerated shapes."""

    name: Literal["coreml-metal"]
    minimum_deployment_target: Literal["iOS16", "iOS17", "iOS18"]
    layout: Literal["channels_last", "channels_first"]
    """Of what a classifier's layers pass on: [1, tokens, channels] through linear layers, or [1, channels, 1, tokens]
    through 1×1 convolutions, the same numbers as Apple wrote encoders for the Neural Engine (ml-ane-transformers)."""


Target = Annotated[OnnxCpu | TfliteNnapi | CoremlMetal, Field(discriminator="name")]


class Float(Section):
    """Weights and activations in floating point."""

    kind: Literal["float"]
    bits: Literal[16, 32]


class Dynamic(Section):
    """Integer weights; activations quantised at run time."""

    kind: Literal["dynamic"]
    weight_bits: Literal[2, 4, 8]
    granularity: Literal["tensor", "channel", "block_32"]


class WeightOnly(Section):
    """Integer weights, dequantised before use."""

    kind: Literal["weight_only"]
    weight_bits: Literal[4, 8]
    granularity: Literal["tensor", "channel", "block_32"]
    """`block_32`: a scale of its own for every 32 weights of an output channel."""


class Gptq(Section):
    """Integer weights, each rounded so as to make up for the errors of those before it; activations as in `Dynamic`."""

    kind: Literal["gptq"]
    weight_bits: Literal[4]
    granularity: Literal["block_32"]


class SourceBlocks(Section):
    """Weights as the levels, scales and minima of the GGUF file that the teacher is; nothing is rounded."""

    kind: Literal["source"]
    granularity: Literal["block_32"]


class Static(Section):
    """Integer weights and activations; activation ranges come from the calibration split."""

    kind: Literal["static"]
    weight_bits: Literal[8]
    activation_bits: Literal[8, 16]
    granularity: Literal["tensor", "channel"]


class Palettized(Section):
    """Weights as indices into a k-means table of 2^bits values."""

    kind: Literal["palettized"]
    weight_bits: Literal[2, 4, 6, 8]
    granularity: Literal["tensor", "channels_16"]
    """`channels_16`: a table for every 16 output channels, or the next larger number that divides them."""
    sparsity: Annotated[float, Field(ge=0, lt=1)]
    """Share of each weight, smallest magnitudes first, that is dropped and costs one bit of a mask instead."""


Uniform = Annotated[Float | Dynamic | WeightOnly | Palettized, Field(discriminator="kind")]
"""One precision for every weight, without calibration."""


class Mixed(Section):
    """Each weight at the cheaper of two precisions, as far as the answers allow it."""

    kind: Literal["mixed"]
    low: Uniform
    high: Uniform
    among: Literal["all", "tables"]
    """Weights that may get the low precision. `tables` leaves matrix products at the high one: the bits of a table, of
    which an utterance reads a few rows, cost a CPU no time."""
    kl_budget: Annotated[float, Field(gt=0)]
    """Nat: largest mean KL divergence of the artifact's answers from the converted model's, on calibration texts."""
    utterances: Annotated[int, Field(ge=1)]
    """Calibration utterances, evenly spaced over the split, that it is measured on: fewer where these
    hold answers enough (`stages/targets/mixing.py`)."""


Precision = Annotated[
    Float | Dynamic | WeightOnly | Gptq | SourceBlocks | Static | Palettized | Mixed, Field(discriminator="kind")
]


class Variant(Section):
    """One line of the report: a compression lowered to a precision on a target."""

    compression: str
    target: TargetName
    precision: str
    required: bool
    """Whether `release` fails the build when this variant has no passing verdict."""
    release_not_measured: bool
    """Whether a `not_measured` variant may ship; its manifest then says so loudly."""
