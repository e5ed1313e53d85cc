"""conf/compression: checkpoint-level transforms in torch, before any target sees the model."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from stages.core.params import Section
from stages.schema.model import Training

Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class NoCompression(Section):
    """Pass the student through unchanged."""

    kind: Literal["none"]
    after: ClassVar[None] = None
    needs: ClassVar[tuple[str, ...]] = ()


class Step(Section):
    """A compression that may be one of an ordered list."""

    after: str | None
    """The compression whose result this one starts from, null for the student."""

    @property
    def needs(self) -> tuple[str, ...]:
        """What it takes from a checkpoint that not every family can give (`Family.withheld`)."""
        return ()


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
    heads_fraction: Share | None
    """Share of all attention heads removed, rounded down; every layer keeps at least one. Null beside `parameters`."""
    ffn_fraction: Share | None
    """Share of the FFN units removed, rounded down, the same number in every FFN. Null beside `parameters`."""
    parameters: Count | None
    """Most parameters that are left, embeddings included, by whichever heads and units cost least; null for shares."""
    importance_utterances: Count
    """Training utterances, evenly spaced over the split, that importance is measured on."""
    recovery: Recovery

    @property
    def needs(self) -> tuple[str, ...]:
        """Heads and FFN units, as far as any go."""
        heads, units = (fraction is None or fraction > 0 for fraction in (self.heads_fraction, self.ffn_fraction))
        return ("heads",) * heads + ("units",) * units

    @model_validator(mode="after")
    def _removes_something(self) -> PruneStructured:
        fractions = self.heads_fraction, self.ffn_fraction
        if self.parameters is not None and fractions != (None, None):
            raise ValueError("parameters is a budget: heads_fraction and ffn_fraction must be null beside it")
        if self.parameters is None and None in fractions:
            raise ValueError("heads_fraction and ffn_fraction are needed where parameters is null")
        if fractions == (0, 0):
            raise ValueError("heads_fraction and ffn_fraction are both 0: use kind 'none'")
        return self


class Unstructured(Section):
    """The smallest weights of every matrix, wherever they stand."""

    kind: Literal["unstructured"]
    sparsity: Annotated[float, Field(gt=0, lt=1)]
    """Share of a matrix that becomes zero, rounded down."""


class NOfM(Section):
    """In every row, so many of each group of neighbours: the pattern that sparse matrix units take (2:4)."""

    kind: Literal["n_of_m"]
    keep: Count
    of: Count

    @model_validator(mode="after")
    def _removes_something(self) -> NOfM:
        if self.keep >= self.of:
            raise ValueError(f"keep {self.keep} of {self.of} removes nothing: keep must be smaller")
        return self


class PruneMagnitude(Step):
    """Set the smallest weights of every matrix to zero, then recover with the zeros held."""

    kind: Literal["prune_magnitude"]
    pattern: Annotated[Unstructured | NOfM, Field(discriminator="kind")]
    recovery: Recovery


class ShareLayers(Step):
    """Let neighbouring encoder layers share their weights, then recover."""

    kind: Literal["share_layers"]
    groups: Count
    """Sets of weights that are left; 1 makes all layers one."""
    recovery: Recovery

    @property
    def needs(self) -> tuple[str, ...]:
        """Layers that differ by their weights alone."""
        return ("own layers",)


class Factorize(Step):
    """Replace matrices by products of two smaller ones, then recover."""

    kind: Literal["factorize"]
    embedding_rank: Count | None
    """Columns left in the table of word embeddings, null to leave it."""
    linear_rank: Count | None
    """Rank of the Linear layers of attention and FFNs, null to leave them; those it would not shrink stay."""
    utterances: Count
    """Training utterances, evenly spaced over the split, that show what the matrices see."""
    recovery: Recovery | None

    @property
    def needs(self) -> tuple[str, ...]:
        """Matrices that may become two."""
        return ("whole matrices",)

    @model_validator(mode="after")
    def _has_a_rank(self) -> Factorize:
        if self.embedding_rank is None and self.linear_rank is None:
            raise ValueError("embedding_rank and linear_rank are both null: use kind 'none'")
        return self


class PruneVocabulary(Step):
    """Drop pieces that training texts hardly use from the embedding and the tokenizer, then recover."""

    kind: Literal["prune_vocabulary"]
    min_count: Count
    """How often a piece must occur in the train split to stay. Special tokens and single characters always stay."""
    recovery: Recovery | None

    @property
    def needs(self) -> tuple[str, ...]:
        """Words that can go one by one."""
        return ("words",)


class ShareWeights(Step):
    """Let every matrix hold at most 2^bits distinct values, by sensitivity-weighted k-means, then recover."""

    kind: Literal["share_weights"]
    bits: Annotated[int, Field(ge=1, le=8)]
    group_rows: Count | None
    """Rows (output channels) that share a table, null for one table per matrix."""
    sensitivity_utterances: Count
    """Training utterances, evenly spaced over the split, that sensitivity is measured on, one gradient each."""
    recovery: Recovery | None


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


class ApproximateGelu(Step):
    """Compute GELUs by a formula that accelerators have operators for, and recover if asked to."""

    kind: Literal["approximate_gelu"]
    by: Literal["quick_gelu", "gelu_pytorch_tanh"]
    """As transformers calls them: x·σ(1.702x), or the tanh form, twenty times as close."""
    recovery: Recovery | None


class PruneLayers(Step):
    """Remove whole encoder layers, then recover."""

    kind: Literal["prune_layers"]
    count: Count
    by: Literal["importance", "evenly"]
    """`importance`: those without which the loss rises least. `evenly`: so that those left are evenly spaced."""
    importance_utterances: Count
    """Training utterances, evenly spaced over the split, that importance is measured on."""
    recovery: Recovery


Compression = Annotated[
    NoCompression
    | PruneStructured
    | PruneLayers
    | PruneMagnitude
    | ShareLayers
    | Factorize
    | PruneVocabulary
    | ShareWeights
    | Qat
    | ApproximateGelu,
    Field(discriminator="kind"),
]
