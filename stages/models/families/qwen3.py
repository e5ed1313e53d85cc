"""Qwen3 (Yang et al. 2025): LLaMA, with every head of queries and keys normalised before it is turned."""

from __future__ import annotations

from dataclasses import replace

from stages.models.families import llama, qwen2

FAMILY = replace(
    llama.FAMILY,
    name="qwen3",
    rules={
        **{name: rule for name, rule in llama.FAMILY.rules.items() if name not in ("mlp_bias", "pretraining_tp")},
        **qwen2.WINDOW,
    },
    layer_kinds=qwen2.FAMILY.layer_kinds,
)
