"""DistilBERT (Sanh et al. 2019): BERT without token types and pooler, under other names."""

from __future__ import annotations

from typing import Any

from stages.models.families.base import ACTIVATION, COUNT, FLAG, INDEX, SHARE, SPREAD, Block, Family, Ffn, or_null


def _block(layer: Any) -> Block:
    attention = layer.attention
    return Block(
        attention.q_lin,
        attention.k_lin,
        attention.v_lin,
        attention.out_lin,
        attention.attention_head_size,
        (Ffn(layer.ffn.lin1, layer.ffn.lin2),),
    )


FAMILY = Family(
    "distilbert",
    layers="n_layers",
    hidden_size="dim",
    heads="n_heads",
    ffn_size="hidden_dim",
    activation="activation",
    rules={
        **dict.fromkeys(("vocab_size", "max_position_embeddings", "dim", "n_layers", "n_heads", "hidden_dim"), COUNT),
        **dict.fromkeys(("dropout", "attention_dropout", "qa_dropout", "seq_classif_dropout"), SHARE),
        "activation": ACTIVATION,
        "initializer_range": SPREAD,
        "pad_token_id": or_null(INDEX),
        "sinusoidal_pos_embds": FLAG,
    },
    copies=lambda _config: {"embedding_size": "dim"},
    layer_list="transformer.layer",
    block=_block,
    last_norm="output_layer_norm",
    attention_dropout="attention.dropout",
    weights={
        "query": "q_lin.weight",
        "key": "k_lin.weight",
        "output": "out_lin.weight",
        "up": "lin1.weight",
        "words": "word_embeddings.weight",
        "positions": "position_embeddings.weight",
    },
    unused=dict.fromkeys(("vocab_transform.", "vocab_layer_norm.", "vocab_projector."), "ForMaskedLM"),
)
