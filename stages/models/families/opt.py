"""OPT (Zhang et al. 2022): learned positions from the third row on, normalisation before or after, ReLU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stages.models.families.base import COUNT, FLAG, INDEX, SHARE, SPREAD, Block, Family, Ffn, one_of, or_null
from stages.models.families.decoder import NO_WIDTH, WITHHELD

if TYPE_CHECKING:
    from stages.models.families.decoder import Array, Decoder

STEM = "model.decoder."
FIRST = 2
"""Row of the position table that the first token reads: fairseq keeps those below it for padding."""
EPSILON = 1e-5
"""Of `torch.nn.LayerNorm`; no setting says another."""


def decoder(config: Mapping[str, Any], tensors: Mapping[str, Array]) -> Decoder:
    """Read a checkpoint: see `stages.models.families.decoder`."""
    from stages.models.families import decoder as parts

    def linear(name: str) -> parts.Linear:
        return parts.Linear(f"{name}.weight", tensors[f"{STEM}{name}.weight"], tensors.get(f"{STEM}{name}.bias"))

    def norm(name: str) -> parts.Norm:
        return parts.Norm(f"{name}.weight", tensors[f"{STEM}{name}.weight"], tensors[f"{STEM}{name}.bias"])

    def layer(stem: str) -> parts.Layer:
        return parts.Layer(
            attention_norm=norm(f"{stem}.self_attn_layer_norm"),
            query=linear(f"{stem}.self_attn.q_proj"),
            key=linear(f"{stem}.self_attn.k_proj"),
            value=linear(f"{stem}.self_attn.v_proj"),
            output=linear(f"{stem}.self_attn.out_proj"),
            ffn_norm=norm(f"{stem}.final_layer_norm"),
            gate=None,
            up=linear(f"{stem}.fc1"),
            down=linear(f"{stem}.fc2"),
        )

    heads, before = config["num_attention_heads"], config["do_layer_norm_before"]
    between = config["word_embed_proj_dim"] != config["hidden_size"]
    return parts.Decoder(
        heads=heads,
        groups=heads,
        head_size=config["hidden_size"] // heads,
        context=config["max_position_embeddings"],
        padding=config["pad_token_id"],
        epsilon=EPSILON,
        norm_first=before,
        activation=config["activation_function"],
        frequencies=None,
        words=tensors[f"{STEM}embed_tokens.weight"],
        words_name="embed_tokens.weight",
        positions=tensors[f"{STEM}embed_positions.weight"][FIRST:],
        positions_name="embed_positions.weight",
        layers=tuple(layer(f"layers.{number}") for number in range(config["num_hidden_layers"])),
        norm=norm("final_layer_norm") if before else None,
        head=None if config["tie_word_embeddings"] else parts.Linear("lm_head.weight", tensors["lm_head.weight"]),
        widen=linear("project_in") if between else None,
        narrow=linear("project_out") if between else None,
    )


def _block(layer: Any) -> Block:
    attention = layer.self_attn
    ffn = Ffn(layer.fc1, layer.fc2)
    return Block(attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj, attention.head_dim, (ffn,))


def _narrow(fields: Mapping[str, Any], hidden_size: int, _heads: int) -> dict[str, int]:
    return {"word_embed_proj_dim": min(fields.get("word_embed_proj_dim", hidden_size), hidden_size)}


FAMILY = Family(
    "opt",
    ffn_size="ffn_dim",
    activation="activation_function",
    rules={
        **dict.fromkeys(("vocab_size", "hidden_size", "ffn_dim", "num_hidden_layers", "num_attention_heads"), COUNT),
        **dict.fromkeys(("max_position_embeddings", "word_embed_proj_dim"), COUNT),
        "activation_function": one_of("relu", "gelu"),
        **dict.fromkeys(("do_layer_norm_before", "enable_bias", "tie_word_embeddings"), FLAG),
        "_remove_final_layer_norm": one_of(False),
        "layer_norm_elementwise_affine": one_of(True),
        **dict.fromkeys(("dropout", "attention_dropout", "layerdrop"), SHARE),
        "init_std": SPREAD,
        "pad_token_id": or_null(INDEX),
    },
    copies=lambda _config: {},
    rows_before=FIRST,
    narrow=_narrow,
    spread="init_std",
    layer_list="decoder.layers",
    block=_block,
    last_norm="",
    branches=("self_attn", "fc2"),
    head="lm_head",
    weights={
        "query": "q_proj.weight",
        "key": "k_proj.weight",
        "output": "out_proj.weight",
        "up": "fc1.weight",
        "words": "embed_tokens.weight",
        "positions": "embed_positions.weight",
    },
    withheld={**WITHHELD, **NO_WIDTH},
    decoder=decoder,
)
