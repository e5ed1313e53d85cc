"""Say how fast each weight of a pretrained encoder learns under a new head."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from stages.models.families import family_of
from stages.models.tuning import bf16_is_faster
from stages.schema.model import FineTuning


def rates(model: Any, new: Collection[str], training: FineTuning) -> dict[str, float]:
    """Return the peak learning rate of every weight, by name.

    New weights have the head's, embeddings (their norm and projections included) their own, each layer
    `layer_decay` times that of the one above it, what stands above the last layer the last layer's. Layers that share
    their weights, as ALBERT's of a group, count as one.

    Source: Howard & Ruder, Universal Language Model Fine-tuning (2018), section 3.2, discriminative fine-tuning.

    Args:
        model: a Hugging Face model with a head.
        new: names of the weights that the checkpoint does not have.
        training: the rates.
    """
    layer = re.compile(rf"{model.base_model_prefix}\.{re.escape(family_of(model.config).layer_list)}\.(\d+)\.")
    places = {name: layer.match(name) for name, _ in model.named_parameters()}
    last = max((int(place.group(1)) for place in places.values() if place), default=0)

    def rate(name: str) -> float:
        place = places[name]
        if name in new:
            return training.head_learning_rate
        if place:
            return training.learning_rate * training.layer_decay ** (last - int(place.group(1)))
        embeds = any(part.startswith("embedding") for part in name.split("."))
        return training.embedding_learning_rate if embeds else training.learning_rate

    return {name: rate(name) for name in places}


def use_bf16(training: FineTuning) -> bool:
    """Whether products are computed in bf16 while it trains here."""
    return bf16_is_faster() if training.arithmetic == "auto" else training.arithmetic == "bf16"
