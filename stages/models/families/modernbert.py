"""ModernBERT (Warner et al. 2024): rotary positions, windows of attention, packed matrices, gated FFNs, no biases."""

from __future__ import annotations

from typing import Any

from stages.models.families.base import (
    ACTIVATION,
    ANY,
    COUNT,
    FLAG,
    INDEX,
    SHARE,
    SPREAD,
    Attention,
    Block,
    Family,
    Ffn,
    Rule,
    one_of,
    or_null,
    setting,
)

FULL, SLIDING = "full_attention", "sliding_attention"


def _one_theta(value: Any) -> bool:
    """Whether positions are turned by plain powers of one number; transformers knows ways to stretch them."""
    return isinstance(value, dict) and all(
        isinstance(one, dict) and one.keys() <= {"rope_type", "rope_theta"} and one.get("rope_type") == "default"
        for one in value.values()
    )


KINDS = Rule(lambda value: isinstance(value, list) and {*value} <= {FULL, SLIDING}, f"a list of {FULL}, {SLIDING}")
THETA = Rule(lambda value: type(value) in (int, float) and value > 0, "a number above 0")


def _block(layer: Any) -> Block:
    packed = layer.attn.Wqkv
    ffn = Ffn(layer.mlp.Wi, layer.mlp.Wo, gate=layer.mlp.Wi)
    return Block(packed, packed, packed, layer.attn.Wo, layer.attn.head_dim, (ffn,))


FAMILY = Family(
    "modernbert",
    activation="hidden_activation",
    rules={
        **dict.fromkeys(("vocab_size", "max_position_embeddings", "hidden_size", "num_hidden_layers"), COUNT),
        **dict.fromkeys(("num_attention_heads", "intermediate_size", "local_attention"), COUNT),
        **dict.fromkeys(("attention_dropout", "embedding_dropout", "mlp_dropout", "classifier_dropout"), SHARE),
        **dict.fromkeys(("attention_bias", "mlp_bias", "classifier_bias", "norm_bias"), FLAG),
        **dict.fromkeys(("hidden_activation", "classifier_activation"), ACTIVATION),
        **dict.fromkeys(("initializer_range", "norm_eps"), SPREAD),
        "classifier_pooling": one_of("cls", "mean"),
        "layer_types": or_null(KINDS),
        "pad_token_id": or_null(INDEX),
        "rope_parameters": or_null(Rule(_one_theta, "a rope_theta of rope_type default for each kind of attention")),
        # Of training, of kernels and of the language model's head.
        **dict.fromkeys(("initializer_cutoff_factor", "deterministic_flash_attn", "decoder_bias"), ANY),
        **dict.fromkeys(("sparse_prediction", "sparse_pred_ignore_index"), ANY),
    },
    legacy={"global_attn_every_n_layers": COUNT, "global_rope_theta": THETA, "local_rope_theta": THETA},
    copies=lambda _config: {"layer_norm_eps": "norm_eps"},
    attentions=lambda config: {FULL: Attention(), SLIDING: Attention(setting(config, "local_attention") // 2)},
    layer_kinds="layer_types",
    rotary="rotary_emb",
    layer_list="layers",
    block=_block,
    first_norm="attn_norm",
    last_norm="",
    attention_dropout="attn.attention_dropout",
    weights={
        "query": "Wqkv.weight",
        "output": "attn.Wo.weight",
        "up": "mlp.Wi.weight",
        "words": "tok_embeddings.weight",
    },
    unused=dict.fromkeys(("decoder.",), "ForMaskedLM"),
)
