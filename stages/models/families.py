"""The families of encoders Tinsmith takes in: how each names its shape, and how to build one of a given shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import AlbertConfig, BertConfig, DistilBertConfig, MobileBertConfig

from stages.core.errors import ConfigError, InputError
from stages.schema.model import Shape, TrainTeacher

# ALBERT's and MobileBERT's published width of word embeddings, whatever the width of their layers.
EMBEDDING_SIZE = 128
# MobileBERT's published ratio of a layer's outer width (512) to the one its attention works in (128).
BOTTLENECK_RATIO = 4
# Spread of a scratch teacher's weights; the stock 0.02 was chosen for a width of 768. On the embedded data (3 layers
# × 128, 14 epochs, one seed each) 0.05 gave 94.0 % and 0.02 gave 92.2 %: intervals touch, so a choice, not a finding.
INITIAL_STD = 0.05


@dataclass(frozen=True)
class Family:
    """The config fields of one family.

    Attributes:
        config: the `transformers` config class.
        layers: field with the number of layers.
        hidden_size: field with their width.
        heads: field with the attention heads per layer.
        ffn_size: field with the units of an FFN.
        activation: field with the FFN's activation.
        narrow: what else follows from the layers' width, as config fields.
    """

    config: type
    layers: str = "num_hidden_layers"
    hidden_size: str = "hidden_size"
    heads: str = "num_attention_heads"
    ffn_size: str = "intermediate_size"
    activation: str = "hidden_act"
    narrow: Callable[[Mapping[str, Any], int], dict[str, int]] = lambda _fields, _hidden_size: {}


def _narrow_albert(fields: Mapping[str, Any], hidden_size: int) -> dict[str, int]:
    return {"embedding_size": min(fields["embedding_size"], hidden_size)}


def _narrow_mobilebert(fields: Mapping[str, Any], hidden_size: int) -> dict[str, int]:
    ratio = fields["hidden_size"] / fields["intra_bottleneck_size"]
    bottleneck = max(1, round(hidden_size / ratio))
    # `true_hidden_size` is derived when a config is made and then stored: left alone, it keeps the old width.
    true_size = bottleneck if fields["use_bottleneck"] else hidden_size
    return {
        "embedding_size": min(fields["embedding_size"], hidden_size),
        "intra_bottleneck_size": bottleneck,
        "true_hidden_size": true_size,
    }


FAMILIES: dict[str, Family] = {
    "bert": Family(BertConfig),
    "distilbert": Family(
        DistilBertConfig,
        layers="n_layers",
        hidden_size="dim",
        heads="n_heads",
        ffn_size="hidden_dim",
        activation="activation",
    ),
    "mobilebert": Family(MobileBertConfig, narrow=_narrow_mobilebert),
    "albert": Family(AlbertConfig, narrow=_narrow_albert),
}


def family_of(config: Any) -> str:
    """Name the family of a checkpoint.

    Raises:
        InputError: it is none of `FAMILIES`.
    """
    name = str(getattr(config, "model_type", None))
    if name not in FAMILIES:
        raise InputError(f"the checkpoint is of family '{name}'", expected=f"one of: {', '.join(FAMILIES)}")
    return name


def teacher_config(teacher: TrainTeacher, vocabulary_size: int, max_length: int, labels: list[str]) -> Any:
    """Build the config of a teacher to train from scratch.

    Args:
        teacher: its shape.
        vocabulary_size: entries of its tokenizer.
        max_length: longest token sequence; its positions.
        labels: class names, the index is the class id.

    Raises:
        ConfigError: the heads do not divide the width.
    """
    family = FAMILIES[teacher.family]
    defaults = family.config().to_dict()
    start = {
        "embedding_size": EMBEDDING_SIZE,
        "hidden_size": BOTTLENECK_RATIO,
        "intra_bottleneck_size": 1,
        "use_bottleneck": defaults.get("use_bottleneck", False),
    }
    return _build(
        family,
        teacher,
        {
            "vocab_size": vocabulary_size,
            "max_position_embeddings": max_length,
            "pad_token_id": 0,
            "initializer_range": INITIAL_STD,
            **family.narrow(start, teacher.hidden_size),
            **_label_fields(labels),
        },
    )


def student_config(teacher: Any, shape: Shape) -> Any:
    """Build the config of a student: the teacher's in everything but shape.

    Args:
        teacher: config of the teacher.
        shape: layers, width, heads, FFN units and activation of the student.

    Raises:
        ConfigError: the heads do not divide the width.
    """
    family = FAMILIES[family_of(teacher)]
    fields = teacher.to_dict()
    return _build(family, shape, {**fields, **family.narrow(fields, shape.hidden_size)})


def _build(family: Family, shape: Shape | TrainTeacher, fields: Mapping[str, Any]) -> Any:
    wanted = {
        family.layers: shape.layers,
        family.hidden_size: shape.hidden_size,
        family.heads: shape.heads,
        family.ffn_size: shape.ffn_size,
        family.activation: shape.activation,
    }
    config = family.config.from_dict({**fields, **wanted})  # type: ignore[attr-defined]
    width = getattr(config, "true_hidden_size", shape.hidden_size)
    if width % shape.heads:
        raise ConfigError(f"{shape.heads} heads do not divide an attention of width {width}")
    return config


def _label_fields(labels: list[str]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}
