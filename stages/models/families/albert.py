"""ALBERT (Lan et al. 2020): layers in groups that share their weights, word embeddings narrower than they."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.models.families.base import COMMON, COUNT, SHARE, Block, Family, Ffn

# The published width of word embeddings, whatever the width of the layers.
EMBEDDING_SIZE = 128


def _narrow(fields: Mapping[str, Any], hidden_size: int) -> dict[str, int]:
    return {"embedding_size": min(fields["embedding_size"], hidden_size)}


def _block(layer: Any) -> Block:
    attention = layer.attention
    return Block(
        attention.query,
        attention.key,
        attention.value,
        attention.dense,
        attention.attention_head_size,
        (Ffn(layer.ffn, layer.ffn_output),),
    )


FAMILY = Family(
    "albert",
    rules={
        **COMMON,
        **dict.fromkeys(("embedding_size", "num_hidden_groups", "inner_group_num"), COUNT),
        "classifier_dropout_prob": SHARE,
    },
    copies=lambda _config: {},
    published={"embedding_size": EMBEDDING_SIZE},
    narrow=_narrow,
    layer_list="encoder.albert_layer_groups",
    members=lambda group: group.albert_layers,
    shares_layers=True,
    block=_block,
    last_norm="",
    attention_dropout="attention.attention_dropout",
    weights={
        "query": "query.weight",
        "key": "key.weight",
        "output": "attention.dense.weight",
        "up": "ffn.weight",
        "words": "word_embeddings.weight",
        "positions": "position_embeddings.weight",
    },
    unused={"predictions.": "ForMaskedLM", "sop_classifier.": "ForNextSentencePrediction"},
)
