"""MobileBERT (Sun et al. 2020): bottlenecks, several FFNs per layer, words embedded with their neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stages.models.families.base import (
    COMMON,
    COUNT,
    FLAG,
    WORDS_WIDTH,
    Block,
    Family,
    Ffn,
    bert_block,
    narrow_words,
    one_of,
)

# The published ratio of a layer's outer width (512) to the one its attention works in (128).
BOTTLENECK_RATIO = 4


def _narrow(fields: Mapping[str, Any], hidden_size: int, heads: int) -> dict[str, int]:
    ratio = fields["hidden_size"] / fields["intra_bottleneck_size"]
    bottleneck = max(1, round(hidden_size / ratio))
    # `true_hidden_size` is derived when a config is made and then stored: left alone, it keeps the old width.
    true_size = bottleneck if fields["use_bottleneck"] else hidden_size
    return {
        **narrow_words(fields, hidden_size, heads),
        "intra_bottleneck_size": bottleneck,
        "true_hidden_size": true_size,
    }


def _copies(config: Mapping[str, Any]) -> dict[str, str]:
    bottleneck = config.get("use_bottleneck", True)
    return {"true_hidden_size": "intra_bottleneck_size" if bottleneck else "hidden_size"}


def _block(layer: Any) -> Block:
    """Further FFNs stand between the attention and the last one."""
    found = bert_block(layer)
    return replace(found, ffns=(*(Ffn(one.intermediate.dense, one.output.dense) for one in layer.ffn), *found.ffns))


FAMILY = Family(
    "mobilebert",
    attention_width="true_hidden_size",
    rules={
        **COMMON,
        **dict.fromkeys(("embedding_size", "intra_bottleneck_size", "num_feedforward_networks"), COUNT),
        **dict.fromkeys(("trigram_input", "use_bottleneck", "use_bottleneck_attention"), FLAG),
        **dict.fromkeys(("key_query_shared_bottleneck", "classifier_activation"), FLAG),
        "normalization_type": one_of("no_norm", "layer_norm"),
    },
    copies=_copies,
    published={
        "embedding_size": WORDS_WIDTH,
        "hidden_size": BOTTLENECK_RATIO,
        "intra_bottleneck_size": 1,
        "use_bottleneck": True,
    },
    narrow=_narrow,
    neighbours="trigram_input",
    block=_block,
    last_norm="",
    unused={"cls.predictions.": "ForMaskedLM", "cls.seq_relationship.": "ForNextSentencePrediction"},
    ambiguous={"classifier_activation": False},
)
