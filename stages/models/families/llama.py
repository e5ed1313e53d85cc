"""LLaMA (Touvron et al. 2023) and what is built as it is: SmolLM2, TinyLlama, stories260k."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.models.families.base import COUNT, FLAG, INDEX, SHARE, SPREAD, Family, Rule, one_of, or_null

if TYPE_CHECKING:
    from stages.models.families.decoder import Array, Decoder


def frequencies(config: Mapping[str, Any], size: int) -> Array:
    """Return how far each pair of a head is turned per position: fp32 [size / 2] radians.

    Source: Su et al., RoFormer (2021), section 3.4; computed in fp32, as transformers does.
    """
    base = np.float32(config["rope_parameters"]["rope_theta"])
    powers = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    return np.asarray(np.float32(1) / base**powers, np.float32)


def decoder(config: Mapping[str, Any], tensors: Mapping[str, Array]) -> Decoder:
    """Read a checkpoint: see `stages.models.families.decoder`."""
    from stages.models.families import decoder as parts

    def linear(name: str) -> parts.Linear:
        bias = tensors.get(f"{name}.bias")
        return parts.Linear(f"{name.removeprefix('model.')}.weight", tensors[f"{name}.weight"], bias)

    def norm(name: str) -> parts.Norm:
        return parts.Norm(f"{name.removeprefix('model.')}.weight", tensors[f"{name}.weight"])

    def layer(stem: str) -> parts.Layer:
        attention, ffn = f"{stem}.self_attn", f"{stem}.mlp"
        return parts.Layer(
            attention_norm=norm(f"{stem}.input_layernorm"),
            query=linear(f"{attention}.q_proj"),
            key=linear(f"{attention}.k_proj"),
            value=linear(f"{attention}.v_proj"),
            output=linear(f"{attention}.o_proj"),
            ffn_norm=norm(f"{stem}.post_attention_layernorm"),
            gate=linear(f"{ffn}.gate_proj"),
            up=linear(f"{ffn}.up_proj"),
            down=linear(f"{ffn}.down_proj"),
        )

    size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return parts.Decoder(
        heads=config["num_attention_heads"],
        groups=config["num_key_value_heads"],
        head_size=size,
        context=config["max_position_embeddings"],
        padding=config["pad_token_id"],
        epsilon=config["rms_norm_eps"],
        norm_first=True,
        activation="silu",
        frequencies=frequencies(config, size),
        words=tensors["model.embed_tokens.weight"],
        words_name="embed_tokens.weight",
        positions=None,
        positions_name="",
        layers=tuple(layer(f"model.layers.{number}") for number in range(config["num_hidden_layers"])),
        norm=norm("model.norm"),
        head=None if config["tie_word_embeddings"] else linear("lm_head"),
    )


def _plain_rotary(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.get("rope_type", "default") == "default"
        and value.keys() <= {"rope_theta", "rope_type"}
    )


FAMILY = Family(
    "llama",
    layers="num_hidden_layers",
    rules={
        **dict.fromkeys(("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"), COUNT),
        **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "max_position_embeddings"), COUNT),
        "head_dim": or_null(COUNT),
        "hidden_act": one_of("silu"),
        "rms_norm_eps": SPREAD,
        "rope_parameters": Rule(
            _plain_rotary, "rope_type default", "its positions are stretched in a way not known here yet"
        ),
        **dict.fromkeys(("attention_bias", "mlp_bias", "tie_word_embeddings"), FLAG),
        "attention_dropout": SHARE,
        "initializer_range": SPREAD,
        "pretraining_tp": one_of(1),
        "pad_token_id": or_null(INDEX),
    },
    copies=lambda _config: {},
    layer_list="layers",
    head="lm_head",
    weights={
        "query": "q_proj.weight",
        "key": "k_proj.weight",
        "output": "o_proj.weight",
        "up": "up_proj.weight",
        "words": "embed_tokens.weight",
    },
    decoder=decoder,
)
