"""Structure that a stock config cannot describe: layers that share their weights, matrices of low rank.

Both are recorded in config.json (`shared_layers`, `low_rank`), and `checkpoint.load_model` builds them again: the
checkpoint is a Hugging Face directory, but not one that transformers alone can load.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from stages.core.errors import InputError, Unsupported

SHARING = ("bert", "distilbert")


class LowRankLinear(torch.nn.Module):
    """A Linear layer as two: in → rank, without a bias, and rank → out."""

    def __init__(self, in_features: int, out_features: int, rank: int) -> None:
        """Make both layers, untrained."""
        super().__init__()
        self.inner = torch.nn.Linear(in_features, rank, bias=False)
        self.outer = torch.nn.Linear(rank, out_features)

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


def share_layers(model: Any) -> None:
    """Let every encoder layer be the first one, and record it in the config.

    The normalisation in front of the first layer becomes the layer's own last one, which is in front of all others:
    LiteRT folds its scale into the matrices after it, and would store them once for each scale.

    Args:
        model: classifier, changed in place.

    Raises:
        Unsupported: a family whose layers share already, or differ by more than their weights.
    """
    family = model.config.model_type
    if family not in SHARING:
        already = "shares its layers already" if family == "albert" else "cannot share its layers"
        raise Unsupported(f"a '{family}' checkpoint {already}", expected=f"one of: {', '.join(SHARING)}")
    encoder = model.base_model
    layers = encoder.transformer.layer if family == "distilbert" else encoder.encoder.layer
    for index in range(1, len(layers)):
        layers[index] = layers[0]
    first = layers[0]
    encoder.embeddings.LayerNorm = first.output_layer_norm if family == "distilbert" else first.output.LayerNorm
    model.config.shared_layers = True


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


def _lower(path: str, module: torch.nn.Module, rank: int) -> torch.nn.Module:
    if type(module) is torch.nn.Linear:
        return LowRankLinear(module.in_features, module.out_features, rank)
    if type(module) is torch.nn.Embedding:
        return LowRankEmbedding(module.num_embeddings, module.embedding_dim, rank, module.padding_idx)
    raise InputError(f"'{path}' is a {type(module).__name__}", expected="a Linear or an Embedding")
