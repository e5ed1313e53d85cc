"""Structure that a stock config cannot describe: shared layers, matrices of low rank, single activations.

All are recorded in config.json (`shared_layers`, `low_rank`, `replaced_activations`), and `checkpoint.load_model`
builds them again: the checkpoint is a Hugging Face directory, but not one that transformers alone can load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from transformers.activations import ACT2FN

from stages.core.errors import InputError, Unsupported
from stages.models.blocks import pruned_heads
from stages.models.families import family_of, find, names
from stages.models.families.base import ACTIVATION


class LowRankLinear(torch.nn.Module):
    """A Linear layer as two: in → rank, without a bias, and rank → out."""

    def __init__(self, in_features: int, out_features: int, rank: int, *, bias: bool) -> None:
        """Make both layers, untrained."""
        super().__init__()
        self.inner = torch.nn.Linear(in_features, rank, bias=False)
        self.outer = torch.nn.Linear(rank, out_features, bias=bias)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return [..., out] for [..., in]."""
        found: torch.Tensor = self.outer(self.inner(values))
        return found


class LowRankEmbedding(torch.nn.Embedding):
    """A table of `rank` columns and a projection to the width that the model expects."""

    def __init__(self, words: int, width: int, rank: int, padding_idx: int | None) -> None:
        """Make table and projection, untrained."""
        super().__init__(words, rank, padding_idx)
        self.project = torch.nn.Linear(rank, width, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return [..., width] for integer ids [...]."""
        found: torch.Tensor = self.project(super().forward(ids))
        return found


def low_rank(config: Any) -> dict[str, int]:
    """Read which modules of a checkpoint are of low rank: path → rank.

    Raises:
        InputError: config.json holds something else under `low_rank`.
    """
    recorded = getattr(config, "low_rank", None) or {}
    try:
        return {str(path): int(rank) for path, rank in dict(recorded).items()}
    except (TypeError, ValueError) as error:
        raise InputError(f"config.json has low_rank {recorded!r}", expected="{module: rank}") from error


def shared_layers(config: Any) -> list[int]:
    """Read which layers of a checkpoint share their weights: layer → group, empty where none do.

    Raises:
        InputError: config.json holds something else under `shared_layers`.
    """
    recorded = getattr(config, "shared_layers", None)
    if recorded is None:
        return []
    layers = config.num_hidden_layers
    groups: list[int] = recorded if isinstance(recorded, list) else []
    numbered = len(groups) == layers and all(type(group) is int for group in groups)
    # Steps of 1 alone would be layers that share nothing.
    if not numbered or groups[0] != 0 or {b - a for a, b in pairwise(groups)} not in ({0}, {0, 1}):
        raise InputError(
            f"config.json has shared_layers {recorded!r}",
            expected=f"groups of {layers} layers, from 0 up without a gap: [0, 0, 1, 1]",
        )
    return groups


def replaced_activations(config: Any) -> dict[str, str]:
    """Read which modules have another activation than the model's class and settings give them: path → its name.

    Raises:
        InputError: config.json holds something else under `replaced_activations`.
    """
    recorded = getattr(config, "replaced_activations", None) or {}
    if not isinstance(recorded, Mapping) or not all(ACTIVATION.fits(name) for name in recorded.values()):
        raise InputError(f"config.json has replaced_activations {recorded!r}", expected="{module: activation}")
    return {str(path): str(name) for path, name in recorded.items()}


def replace_activations(model: Any, names: Mapping[str, str]) -> None:
    """Put other activations in the place of a model's, and record them in the config.

    Args:
        model: classifier, changed in place.
        names: path of an activation → the name of another, as transformers calls it.

    Raises:
        InputError: there is no such module, or it has weights, as no activation has.
    """
    for path, name in names.items():
        try:
            module = model.get_submodule(path)
        except AttributeError as error:
            raise InputError(f"replaced_activations names '{path}'", expected="a module of the checkpoint") from error
        if path == "" or next(module.parameters(), None) is not None:
            raise InputError(f"'{path}' is a {type(module).__name__}", expected="an activation, which has no weights")
        model.set_submodule(path, ACT2FN[name])
    model.config.replaced_activations = {**replaced_activations(model.config), **names}


def share_layers(model: Any, groups: Sequence[int]) -> None:
    """Let every encoder layer of a group be the group's first one, and record it in the config.

    One normalisation stands in front of all layers then: the last one of the first group, in the place of the
    embeddings' and every other group's. A group's first layer reads what the group before it has normalised, the rest
    what the group itself has; LiteRT folds the scale of a normalisation into the matrices after it, and would store
    query, key and value once for each scale.

    `pruned_heads` counts blocks, which are the groups from here on: each keeps the heads that its first layer kept.

    Args:
        model: classifier, changed in place.
        groups: layer → group, as `shared_layers` reads them.

    Raises:
        Unsupported: layers that share already, or a family whose layers differ by more than their weights.
    """
    family, encoder = family_of(model.config), model.base_model
    already = family.shares_layers or bool(shared_layers(model.config))
    if already or not family.last_norm:
        fault = "shares its layers already" if already else "cannot share its layers"
        able = ", ".join(name for name in names() if find(name).last_norm)
        raise Unsupported(f"a '{family.name}' checkpoint {fault}", expected=f"own layers in one of: {able}")
    layers = encoder.get_submodule(family.layer_list)
    firsts, heads = [groups.index(group) for group in sorted(set(groups))], pruned_heads(model.config)
    kept = [layers[first] for first in firsts]
    for layer, group in enumerate(groups):
        layers[layer] = kept[group]
    _share_norm(encoder.embeddings, kept, family.last_norm)
    model.config.pruned_heads = {group: heads[first] for group, first in enumerate(firsts) if first in heads}
    model.config.shared_layers = list(groups)


def lower_rank(model: Any, ranks: Mapping[str, int]) -> None:
    """Put low-rank modules, untrained, in the place of Linear and Embedding modules, and record them in the config.

    Args:
        model: classifier, changed in place.
        ranks: path of a module → its rank.

    Raises:
        InputError: there is no such module, or it is of another kind.
    """
    for path, rank in ranks.items():
        parent, _, name = path.rpartition(".")
        try:
            module = model.get_submodule(path)
        except AttributeError as error:
            raise InputError(f"low_rank names '{path}'", expected="a module of the checkpoint") from error
        setattr(model.get_submodule(parent), name, _lower(path, module, rank))
    model.config.low_rank = {**low_rank(model.config), **ranks}


def _share_norm(embeddings: Any, layers: Sequence[Any], path: str) -> None:
    below, _, name = path.rpartition(".")
    holders = [layer.get_submodule(below) for layer in layers]
    shared = getattr(holders[0], name)
    if embeddings.LayerNorm.weight.shape == shared.weight.shape:  # else a projection stands between (ELECTRA)
        embeddings.LayerNorm = shared
    for holder in holders:
        setattr(holder, name, shared)


def _lower(path: str, module: torch.nn.Module, rank: int) -> torch.nn.Module:
    if type(module) is torch.nn.Linear:
        return LowRankLinear(module.in_features, module.out_features, rank, bias=module.bias is not None)
    if type(module) is torch.nn.Embedding:
        return LowRankEmbedding(module.num_embeddings, module.embedding_dim, rank, module.padding_idx)
    raise InputError(f"'{path}' is a {type(module).__name__}", expected="a Linear or an Embedding")
