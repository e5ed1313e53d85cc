"""Remove whole encoder layers, the least missed or evenly spaced ones, then recover by distillation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from stages.compression import Outcome
from stages.core.errors import ConfigError, Unsupported
from stages.models import importance
from stages.models.blocks import blocks, pruned_heads
from stages.models.examples import Examples
from stages.models.families import family_of
from stages.models.objective import cross_entropy
from stages.models.recovery import before, recover
from stages.schema.compression import PruneLayers

SPLITS = ("train", "validation")


def apply(model: Any, tokenizer: Any, splits: Mapping[str, Examples], params: PruneLayers) -> Outcome:
    """Remove layers and recover `model` in place.

    Args:
        model: the checkpoint.
        tokenizer: for token masking during recovery.
        splits: `train` says what is missed, and recovers; `validation` is only reported on.
        params: how many layers go, which, and how to recover.

    Raises:
        Unsupported: layers that share their weights.
        ConfigError: no layer would be left.
    """
    layers = _layers(model)
    if params.count >= len(layers):
        raise ConfigError(f"count {params.count} removes all of {len(layers)} layers", expected=f"below {len(layers)}")
    known = before(model, splits, params.recovery)
    costs = missed(model, importance.sample(splits["train"], params.importance_utterances))
    kept = choose(costs, params.count) if params.by == "importance" else evenly(len(layers), len(layers) - params.count)
    keep(model, layers, kept)
    notes, history = recover(model, tokenizer, splits, params.recovery, known)
    gone = sorted(set(range(len(layers))) - set(kept))
    return Outcome(model, {"layers": gone, "loss_without_layer": costs, **notes}, history)


def missed(model: Any, sample: Examples) -> list[float]:
    """Measure by how much the mean loss rises without each layer, in nats."""
    layers = _layers(model)
    every, labels = list(range(len(layers))), torch.from_numpy(sample.labels)

    def loss(kept: Sequence[int]) -> float:
        _put(model, torch.nn.ModuleList(layers[index] for index in kept))
        return float(cross_entropy(torch.from_numpy(sample.answers(model)), labels))

    try:
        whole = loss(every)
        return [loss([index for index in every if index != gone]) - whole for gone in every]
    finally:
        _put(model, layers)


def choose(costs: Sequence[float], count: int) -> list[int]:
    """Name the layers to keep, ascending: all but the `count` least missed; of equal ones the later goes."""
    ranked = sorted(range(len(costs)), key=lambda index: (costs[index], -index))
    return sorted(ranked[count:])


def evenly(total: int, count: int) -> list[int]:
    """Name `count` of `total` layers, evenly spaced, the last among them: 2 of 6 → 2, 5."""
    return [(index + 1) * total // count - 1 for index in range(count)]


def keep(model: Any, layers: torch.nn.ModuleList, kept: Sequence[int]) -> None:
    """Leave only some layers, and renumber what the config records of them."""
    heads = pruned_heads(model.config)
    for number, layer in enumerate(kept):
        for module in layers[layer].modules():
            if hasattr(module, "layer_idx"):  # where a decoder's layer finds its keys and values of earlier calls
                module.layer_idx = number
    _put(model, torch.nn.ModuleList(layers[index] for index in kept))
    model.config.num_hidden_layers = len(kept)
    family = family_of(model.config)
    if family.layer_kinds:
        kinds = getattr(model.config, family.layer_kinds)
        setattr(model.config, family.layer_kinds, [kinds[layer] for layer in kept])
    if family.first_norm:  # what the first layer reads is normalised already, and its config gives it no norm
        layers[kept[0]].set_submodule(family.first_norm, torch.nn.Identity())
    if heads:
        model.config.pruned_heads = {new: heads[old] for new, old in enumerate(kept) if old in heads}


def _layers(model: Any) -> torch.nn.ModuleList:
    family, parts = family_of(model.config), blocks(model)
    if family.shares_layers or len(parts) < model.config.num_hidden_layers:
        raise Unsupported("the checkpoint's layers share their weights", expected="layers that can go one by one")
    layers: torch.nn.ModuleList = model.base_model.get_submodule(family.layer_list)
    return layers


def _put(model: Any, layers: torch.nn.ModuleList) -> None:
    model.base_model.set_submodule(family_of(model.config).layer_list, layers)
