"""Qwen2 and Qwen2.5 (Yang et al. 2024): LLaMA, with biases of queries, keys and values."""

from __future__ import annotations

from stages.models.families import llama
from stages.models.families.base import ANY, Family, Rule, one_of, or_null
from stages.models.families.decoder import NO_WIDTH, WITHHELD

ABSENT = {"attention_bias", "head_dim", "mlp_bias", "pretraining_tp"}
WHOLE = Rule(
    lambda value: isinstance(value, list) and set(value) <= {"full_attention"},
    "full_attention in every layer",
    "a window that slides is not known here yet",
)
WINDOW = {
    "use_sliding_window": one_of(False),
    **dict.fromkeys(("sliding_window", "max_window_layers"), ANY),  # of a window that is not used
    "layer_types": or_null(WHOLE),
}
"""Of a window over the last tokens, which there must not be: Qwen3 has these settings too."""

FAMILY = Family(
    "qwen2",
    groups=llama.FAMILY.groups,
    rules={
        **{name: rule for name, rule in llama.FAMILY.rules.items() if name not in ABSENT},
        **WINDOW,
    },
    legacy=llama.FAMILY.legacy,
    copies=lambda _config: {},
    published=llama.SMALL,
    narrow=llama.share,
    layer_kinds="layer_types",
    layer_list="layers",
    block=llama.block,
    last_norm="",
    branches=llama.FAMILY.branches,
    head="lm_head",
    weights=llama.FAMILY.weights,
    withheld={**WITHHELD, **NO_WIDTH},
    decoder=llama.decoder,
)
