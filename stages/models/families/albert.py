"""ALBERT (Lan et al. 2020): layers in groups that share their weights, word embeddings narrower than they."""

from __future__ import annotations

from typing import Any

from stages.models.families.base import COMMON, COUNT, SHARE, WORDS_WIDTH, Block, Family, Ffn, narrow_words


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
    published={"embedding_size": WORDS_WIDTH},
    narrow=narrow_words,
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
