"""conf/teacher, conf/student, conf/distill: the checkpoint that comes in and the one that is distilled."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stages.core.params import Section

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Activation = Literal["gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu"]


def _heads_divide(shape: Any) -> Any:
    if shape.hidden_size % shape.heads:
        raise ValueError(f"{shape.heads} heads do not divide hidden_size {shape.hidden_size}")
    return shape


class Training(Section):
    """One AdamW run with linear warm-up and cosine decay."""

    epochs: Positive
    min_steps: Count
    """The least that it takes, however few texts there are: epochs go on until then."""
    batch_size: Count
    learning_rate: Positive
    weight_decay: Annotated[float, Field(ge=0)]
    warmup_fraction: Fraction
    label_smoothing: Fraction
    token_masking: Fraction
    """Share of input tokens replaced by the mask token, as regularisation."""
    dropout: Dropout
    """Of hidden states; attention weights are never dropped."""
    seed: Seed


class FineTuning(Training):
    """The same of a pretrained encoder under a new head: `learning_rate` is that of the encoder's last layer."""

    head_learning_rate: Positive
    """Of every weight that the checkpoint does not have."""
    embedding_learning_rate: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """0 leaves the embeddings as they are."""
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    """What the rate of a layer is multiplied by for the one below it."""
    arithmetic: Literal["auto", "fp32", "bf16"]
    """Of the products while it trains; `auto` is bf16 where the processor has instructions for it."""


class ImportLimits(Section):
    """What a checkpoint from outside may ask of this machine before it is refused."""

    total_bytes: Count
    """All files that would be read."""
    json_bytes: Count
    """Each JSON file and vocabulary."""
    header_bytes: Count
    """The JSON header of model.safetensors."""
    tensors: Count
    parameters: Count
    """Of the model that config.json describes, whatever the file holds."""
    layers: Count
    integer: Count
    """The largest number that may stand in config.json: widths, positions, vocabulary, labels."""
    tokenizer_growth: Count
    """Tokens, or characters put in by its rules, that a tokenizer may make of one character."""
    memory_bytes: Count
    """Address space of the process that tries the tokenizer."""
    cpu_seconds: Count
    """CPU time of that process."""


class _FromOutside(Section):
    """A Hugging Face directory or a hub id; safetensors only, no remote code."""

    path: str
    revision: str | None
    """Commit hash; required for a hub id, null for a local directory."""
    licence: str
    limits: ImportLimits


class CheckpointTeacher(_FromOutside):
    """A teacher that was trained elsewhere, with its head."""

    kind: Literal["checkpoint"]


class FinetuneTeacher(_FromOutside):
    """A pretrained encoder without a head, which gets one and is trained on the train split."""

    kind: Literal["finetune"]
    training: FineTuning


class TrainTeacher(Section):
    """A teacher trained from scratch on the train split, so that the default needs nothing."""

    kind: Literal["train"]
    family: str
    """A module of stages/models/families."""
    layers: Count
    hidden_size: Count
    heads: Count
    ffn_size: Count
    activation: Activation
    vocabulary_size: Count
    training: Training
    licence: str

    _heads = model_validator(mode="after")(_heads_divide)


Teacher = Annotated[CheckpointTeacher | FinetuneTeacher | TrainTeacher, Field(discriminator="kind")]


class NoStudent(Section):
    """Pass the teacher through unchanged."""

    kind: Literal["none"]


class Shape(Section):
    """A student of the teacher's family, narrower or with fewer layers."""

    kind: Literal["shape"]
    layers: Count
    hidden_size: Count
    heads: Count
    ffn_size: Count
    activation: Activation
    pieces: Annotated[int, Field(ge=1)] | None
    """Rows of the word table, for the pieces that texts use most; None: as many as the teacher has."""

    _heads = model_validator(mode="after")(_heads_divide)


Student = Annotated[NoStudent | Shape, Field(discriminator="kind")]


class Distill(Section):
    """Knowledge distillation (Hinton et al. 2015): T²·KL on softened logits, cross-entropy, hidden states."""

    temperature: Positive
    kl_weight: Annotated[float, Field(ge=0)]
    ce_weight: Annotated[float, Field(ge=0)]
    hidden_weight: Annotated[float, Field(ge=0)]
    muon_learning_rate: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Peak, of the layers' matrices by Muon; 0: they are AdamW's, as embeddings, head and vectors always are."""
    arithmetic: Literal["fp32", "bf16"]
    """Of the student's products while it trains; its weights and their sums stay in fp32."""
    training: Training

    @model_validator(mode="after")
    def _has_a_loss(self) -> Distill:
        if self.kl_weight + self.ce_weight + self.hidden_weight == 0:
            raise ValueError("all weights of the loss are 0: there is nothing to learn from")
        return self
