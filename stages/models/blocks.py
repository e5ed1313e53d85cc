"""The Linear layers of an encoder's attention and FFNs, under one name for all families, and how to shrink them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from stages.core.errors import ConfigError, InputError, Unsupported
from stages.models.families import family_of
from stages.models.families.base import Block


def blocks(model: Any) -> list[Block]:
    """List a classifier's blocks, first layer first.

    Raises:
        Unsupported: a layer is no plain Linear any more.
    """
    ranks = getattr(model.config, "low_rank", None) or {}
    lowered = [path for path in ranks if not path.endswith("_embeddings")]
    if lowered:
        raise Unsupported(f"'{lowered[0]}' is of low rank", expected="factorize as the last step on these layers")
    family = family_of(model.config)
    entries = model.base_model.get_submodule(family.layer_list)
    layers = [layer for entry in entries for layer in family.members(entry)]
    return [family.block(layer) for layer in dict.fromkeys(layers)]  # shared ones once


def pruned_heads(config: Any) -> dict[int, list[int]]:
    """Read which heads a checkpoint lacks: layer → original head numbers, sorted.

    Raises:
        InputError: config.json holds something else under `pruned_heads`.
    """
    recorded = getattr(config, "pruned_heads", None) or {}
    try:
        found = {int(layer): sorted({int(head) for head in heads}) for layer, heads in dict(recorded).items()}
    except (TypeError, ValueError) as error:
        raise InputError(f"config.json has pruned_heads {recorded!r}", expected="{layer: [head, ...]}") from error
    return {layer: heads for layer, heads in sorted(found.items()) if heads}


def heads_left(model: Any, layer: int) -> list[int]:
    """Numbers of the heads a block still has, in the order they lie in its layers; of those that share, the group's.

    The original ones, unless the family's config counts them alone.
    """
    if family_of(model.config).head_size:
        block = blocks(model)[layer]
        return list(range(block.heads // block.shared))
    gone = pruned_heads(model.config).get(layer, [])
    return [head for head in range(model.config.num_attention_heads) if head not in gone]


def remove_heads(model: Any, heads: Mapping[int, Sequence[int]]) -> None:
    """Cut heads out of the query, key, value and output layers, and record them in the config.

    The record is transformers' own convention up to version 4 (`config.pruned_heads`, original numbering). Version 5
    keeps the key but no longer acts on it, so `checkpoint.load_model` does.

    Args:
        model: classifier, changed in place.
        heads: block → original numbers of the heads to remove; those already gone are ignored.

    Raises:
        InputError: a layer or head that the model does not have, or a layer that would keep none.
        ConfigError: a number of heads that the family's config cannot say.
    """
    if family_of(model.config).head_size:
        _keep_as_many(model, heads)
        return
    gone, parts = pruned_heads(model.config), blocks(model)
    for layer, chosen in heads.items():
        _check_heads(model, layer, chosen, len(parts))
        positions = [at for at, head in enumerate(heads_left(model, layer)) if head not in chosen]
        if not positions:
            raise InputError(f"pruned_heads removes every head of layer {layer}", expected="at least one left")
        _keep_heads(parts[layer], positions)
        gone[layer] = sorted({*gone.get(layer, []), *chosen})
    model.config.pruned_heads = {layer: found for layer, found in sorted(gone.items()) if found}


def _keep_as_many(model: Any, heads: Mapping[int, Sequence[int]]) -> None:
    """Cut heads where the config has one number for all layers, and say that number: any transformers loads it."""
    family, parts = family_of(model.config), blocks(model)
    left = [[at for at in heads_left(model, layer) if at not in heads.get(layer, ())] for layer in range(len(parts))]
    sizes, shared, size = {len(positions) for positions in left}, parts[0].shared, parts[0].head_size
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(
            f"every layer must keep as many heads, and one or more, not {sorted(sizes)} groups of {shared}"
        )
    count, width = sizes.pop(), getattr(model.config, family.hidden_size)
    if width % (count * shared):
        raise ConfigError(
            f"{count * shared} heads would be left, and transformers takes none that do not divide the width {width}",
            expected="a share that leaves such a number",
        )
    for block, positions in zip(parts, left, strict=True):
        _keep_heads(block, positions)
    for name, value in ((family.heads, count * shared), (family.groups, count), (family.head_size, size)):
        setattr(model.config, name, value)


def keep_ffn_units(model: Any, kept: Sequence[Sequence[Sequence[int]]]) -> None:
    """Cut FFN units out of every FFN, and record how many are left in the config.

    Args:
        model: classifier, changed in place.
        kept: [block][ffn] → unit numbers to keep, as many everywhere: the config has one number for all.

    Raises:
        ValueError: the numbers of kept units differ.
    """
    sizes = {len(units) for of_block in kept for units in of_block}
    if len(sizes) != 1:
        raise ValueError(f"every FFN must keep the same number of units, not {sorted(sizes)}")
    for block, of_block in zip(blocks(model), kept, strict=True):
        for ffn, units in zip(block.ffns, of_block, strict=True):
            _keep_outputs(ffn.rows, units)
            _keep_inputs(ffn.down, units)
    setattr(model.config, family_of(model.config).ffn_size, sizes.pop())


def _check_heads(model: Any, layer: int, chosen: Sequence[int], layers: int) -> None:
    heads = model.config.num_attention_heads
    if not 0 <= layer < layers or not all(0 <= head < heads for head in chosen):
        raise InputError(
            f"pruned_heads names layer {layer}, heads {list(chosen)}",
            expected=f"layers 0..{layers - 1}, heads 0..{heads - 1}",
        )


def _keep_heads(block: Block, positions: Sequence[int]) -> None:
    """Keep some heads, or some groups of those that share keys and values."""
    wide, narrow = (
        [position * size + row for position in positions for row in range(size)]
        for size in (block.head_size * block.shared, block.head_size)
    )
    _keep_inputs(block.output, wide)
    if block.shared == 1:
        _keep_outputs(block.rows, narrow)
    else:
        _keep_outputs((block.query,), wide)
        _keep_outputs((block.key, block.value), narrow)


def _keep_outputs(linears: Sequence[torch.nn.Linear], index: Sequence[int]) -> None:
    """Keep some outputs of each; of a packed one, which stands there several times, those of every part."""
    for linear, parts in Counter(linears).items():
        own = linear.out_features // parts
        rows = torch.as_tensor([part * own + row for part in range(parts) for row in index])
        linear.weight = torch.nn.Parameter(linear.weight.detach()[rows].clone())
        if linear.bias is not None:
            linear.bias = torch.nn.Parameter(linear.bias.detach()[rows].clone())
        linear.out_features = len(rows)


def _keep_inputs(linear: torch.nn.Linear, index: Sequence[int]) -> None:
    columns = torch.as_tensor(index)
    linear.weight = torch.nn.Parameter(linear.weight.detach()[:, columns].contiguous())
    linear.in_features = len(index)
