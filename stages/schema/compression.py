"""conf/compression: checkpoint-level transforms in torch, before any target sees the model."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from stages.core.params import Section
from stages.schema.model import Training

Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class NoCompression(Section):
    """Pass the student through unchanged."""

    kind: Literal["none"]
    after: ClassVar[None] = None


class Step(Section):
    """A compression that may be one of an ordered list."""

    after: str | None
    """The compression whose result this one starts from, null for the student."""


class Recovery(Section):
    """Short distillation from the checkpoint before the step: T²·KL on softened logits, plus cross-entropy."""

    temperature: Positive
    kl_weight: Weight
    ce_weight: Weight
    training: Training

    @model_validator(mode="after")
    def _has_a_loss(self) -> Recovery:
        if self.kl_weight + self.ce_weight == 0:
            raise ValueError("kl_weight and ce_weight are both 0: there is nothing to learn from")
        return self


class PruneStructured(Step):
    """Remove whole attention heads and FFN units, least important first, then recover."""

    kind: Literal["prune_structured"]
    heads_fraction: Share
    """Share of all attention heads removed, rounded down; every layer keeps at least one."""
    ffn_fraction: Share
    """Share of the FFN units removed, rounded down, the same number in every FFN."""
    importance_utterances: Annotated[int, Field(ge=1)]
    """Training utterances, evenly spaced over the split, that importance is measured on."""
    recovery: Recovery

    @model_validator(mode="after")
    def _removes_something(self) -> PruneStructured:
        if self.heads_fraction + self.ffn_fraction == 0:
            raise ValueError("heads_fraction and ffn_fraction are both 0: use kind 'none'")
        return self


class Qat(Step):
    """Train with weights and activations rounded as an artifact will round them, and leave the weights rounded."""

    kind: Literal["qat"]
    weight_bits: Literal[4, 8]
    granularity: Literal["tensor", "channel", "block_32"]
    """Weights that share a scale, as in the precision of the variants that name this compression."""
    pairwise: bool
    """The scale of a linear layer reaches as far as two neighbours together, as onnx-cpu has it."""
    norms_folded: bool
    """Rounded after a normalisation's gain was multiplied in, as tflite-nnapi does."""
    activation_bits: Literal[8] | None
    """Of what enters linear layers, as static precisions round it; null for float activations."""
    recovery: Recovery

    @model_validator(mode="after")
    def _is_a_target_s(self) -> Qat:
        if self.pairwise and self.norms_folded:
            raise ValueError("pairwise is onnx-cpu's and norms_folded tflite-nnapi's: no target rounds so")
        return self


Compression = Annotated[NoCompression | PruneStructured | Qat, Field(discriminator="kind")]
