"""LLaMA (Touvron et al. 2023) and what is built as it is: SmolLM2, TinyLlama, stories260k."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.models.families.base import COUNT, FLAG, INDEX, SHARE, SPREAD, Block, Family, Ffn, Rule, one_of, or_null
from stages.models.families.decoder import WITHHELD

if TYPE_CHECKING:
    from stages.models.families.decoder import Array, Decoder


def frequencies(config: Mapping[str, Any], size: int) -> Array:
    """Return how far each pair of a head is turned per position: fp32 [size / 2] radians.

    Computed in fp32, as transformers does. Sources: Su et al., RoFormer (2021), section 3.4; for positions stretched
    evenly Chen et al., Extending Context Window of Large Language Models via Positional Interpolation (2023); for
    `llama3`, which stretches slow turns, leaves fast ones and blends between, Llama 3.1's `apply_scaling`.
    """
    settings = config["rope_parameters"]
    base = np.float32(settings["rope_theta"])
    plain = np.float32(1) / base ** (np.arange(0, size, 2, dtype=np.float32) / np.float32(size))
    kind = settings.get("rope_type", "default")
    if kind == "default":
        return np.asarray(plain, np.float32)
    stretched = plain / np.float32(settings["factor"])
    if kind == "linear":
        return np.asarray(stretched, np.float32)
    low, high = settings["low_freq_factor"], settings["high_freq_factor"]
    turns = np.float32(settings["original_max_position_embeddings"]) * plain / np.float32(2 * np.pi)
    share = np.clip((turns - np.float32(low)) / np.float32(high - low), 0, 1)  # of what stays as it is
    return np.asarray((1 - share) * stretched + share * plain, np.float32)


def decoder(config: Mapping[str, Any], tensors: Mapping[str, Array]) -> Decoder:
    """Read a checkpoint: see `stages.models.families.decoder`."""
    from stages.models.families import decoder as parts

    def linear(name: str) -> parts.Linear:
        bias = tensors.get(f"{name}.bias")
        return parts.Linear(f"{name.removeprefix('model.')}.weight", tensors[f"{name}.weight"], bias)

    def norm(name: str) -> parts.Norm:
        return parts.Norm(f"{name.removeprefix('model.')}.weight", tensors[f"{name}.weight"])

    def norm_or_none(name: str) -> parts.Norm | None:  # Qwen3 has them
        return norm(name) if f"{name}.weight" in tensors else None

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
            query_norm=norm_or_none(f"{attention}.q_norm"),
            key_norm=norm_or_none(f"{attention}.k_norm"),
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


STRETCHED = {
    "default": set[str](),
    "linear": {"factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
}
"""Kind of rotary positions → the numbers that it needs."""


def _rotary(value: Any) -> bool:
    """Whether these are rotary positions of a kind known here, with nothing missing and nothing more."""
    if not isinstance(value, Mapping):
        return False
    given = dict(value)
    kinds = {given.pop(name) for name in ("rope_type", "type") if name in given} or {"default"}
    given.pop("rope_theta", None)
    kind = kinds.pop()
    return not kinds and kind in STRETCHED and given.keys() == STRETCHED[kind] and all(map(_positive, given.values()))


def _positive(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < np.inf


ROTARY = Rule(
    _rotary, f"rotary positions of a kind of {', '.join(STRETCHED)}", "they are stretched in a way not known here yet"
)


SMALL = {"num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": True}
"""How small models of the family are built."""


def share(fields: Mapping[str, Any], _hidden_size: int, heads: int) -> dict[str, int]:
    """Let as many heads share their keys and values as before, where their number allows it."""
    groups = max(1, heads * fields["num_key_value_heads"] // fields["num_attention_heads"])
    return {"num_key_value_heads": gcd(heads, groups), "tie_word_embeddings": fields["tie_word_embeddings"]}


def _narrow(fields: Mapping[str, Any], hidden_size: int, heads: int) -> dict[str, int]:
    return {**share(fields, hidden_size, heads), "head_dim": hidden_size // heads}


def block(layer: Any) -> Block:
    """Read a layer."""
    attention, ffn = layer.self_attn, layer.mlp
    return Block(
        attention.q_proj,
        attention.k_proj,
        attention.v_proj,
        attention.o_proj,
        attention.head_dim,
        (Ffn(ffn.up_proj, ffn.down_proj, gate=ffn.gate_proj),),
    )


FAMILY = Family(
    "llama",
    groups="num_key_value_heads",
    head_size="head_dim",
    rules={
        **dict.fromkeys(("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"), COUNT),
        **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "max_position_embeddings"), COUNT),
        "head_dim": or_null(COUNT),
        "hidden_act": one_of("silu"),
        "rms_norm_eps": SPREAD,
        "rope_parameters": ROTARY,
        **dict.fromkeys(("attention_bias", "mlp_bias", "tie_word_embeddings"), FLAG),
        "attention_dropout": SHARE,
        "initializer_range": SPREAD,
        "pretraining_tp": one_of(1),
        "pad_token_id": or_null(INDEX),
    },
    # What published checkpoints say: versions of transformers before the fifth wrote the two apart.
    legacy={"rope_theta": Rule(_positive, "a number above 0"), "rope_scaling": or_null(ROTARY)},
    copies=lambda _config: {},
    published=SMALL,
    narrow=_narrow,
    layer_list="layers",
    block=block,
    last_norm="",
    branches=("self_attn", "mlp"),
    head="lm_head",
    weights={
        "query": "q_proj.weight",
        "key": "k_proj.weight",
        "output": "o_proj.weight",
        "up": "up_proj.weight",
        "words": "embed_tokens.weight",
    },
    withheld=WITHHELD,
    decoder=decoder,
)
