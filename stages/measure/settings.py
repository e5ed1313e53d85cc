"""Hold a checkpoint's `config.json` to what it must follow from: its teacher's, the labels, its own tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

Config = Mapping[str, Any]

SHAPE = {
    "dim",
    "embedding_size",
    "ffn_dim",
    "head_dim",
    "hidden_act",
    "hidden_activation",
    "activation",
    "hidden_dim",
    "hidden_size",
    "intermediate_size",
    "intra_bottleneck_size",
    "layer_types",
    "low_rank",
    "n_heads",
    "n_layers",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "pruned_heads",
    "replaced_activations",
    "shared_layers",
    "true_hidden_size",
    "word_embed_proj_dim",
}
"""What distilling and compressing change; the converted model is compared with the weights, not with these."""
LABELS = {"id2label", "label2id"}
"""Held to the data instead."""
TABLES = {
    "vocab_size": ("word_embeddings.weight", "tok_embeddings.weight"),
    "max_position_embeddings": ("position_embeddings.weight",),
    "type_vocab_size": ("token_type_embeddings.weight",),
}
"""Setting → the table whose rows it counts, by the ends of its names."""
ID = "_token_id"
CULPRITS = 3


def foreign_labels(config: Config, labels: Sequence[str]) -> list[str]:
    """Say where a config numbers labels otherwise than the data does, in either direction."""
    named = config.get("id2label", {})
    actual = [str(named.get(str(index))) for index in range(len(named))]
    if actual != list(labels):
        first = next((i for i, pair in enumerate(zip(actual, labels, strict=False)) if pair[0] != pair[1]), None)
        place = f"{len(actual)} labels" if first is None else f"'{actual[first]}' for class {first}"
        wanted = f"{len(labels)}" if first is None else f"'{labels[first]}'"
        return [f"config.json has {place}, labels.json {wanted}"]
    back = {label: index for index, label in enumerate(labels)}
    if config.get("label2id", {}) != back:
        wrong = next((label for label in back if config.get("label2id", {}).get(label) != back[label]), "another label")
        return [f"config.json has label2id that is not the reverse of id2label ('{wrong}')"]
    return []


def foreign_settings(
    config: Config, teacher: Config, tables: Mapping[str, Sequence[int]], ids: Mapping[int, int] | None
) -> list[str]:
    """Say which settings are neither the teacher's nor what its own tensors make them.

    Args:
        config: of a checkpoint that was made from the teacher.
        teacher: the teacher's.
        tables: tensor → shape, of the checkpoint.
        ids: id in the teacher → id in the checkpoint, of the tokens that are in both; None where none was renumbered.
    """
    wanted = {key: value for key, value in teacher.items() if key not in SHAPE | LABELS}
    if ids is not None:
        wanted |= {key: ids.get(value) for key, value in wanted.items() if key.endswith(ID) and type(value) is int}
    wanted |= {key: rows for key in TABLES if (rows := _rows(tables, TABLES[key])) is not None and key in config}
    found = {key: value for key, value in config.items() if key not in SHAPE | LABELS}
    wrong = sorted(key for key in {*wanted, *found} if found.get(key) != wanted.get(key))
    return [
        f"config.json has {key} {json.dumps(found.get(key), ensure_ascii=False)[:60]}, "
        f"expected {json.dumps(wanted.get(key), ensure_ascii=False)[:60]}"
        for key in wrong[:CULPRITS]
    ]


def _rows(tables: Mapping[str, Sequence[int]], endings: tuple[str, ...]) -> int | None:
    return next((shape[0] for name, shape in tables.items() if name.endswith(endings)), None)
