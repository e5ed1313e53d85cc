"""Set the smallest weights to zero, unstructured or N of M, and hold them there while the rest recovers.

No runtime here skips a zero: latency and the size on disk stay; what shrinks is a compressed download (`zlib_bytes`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.nn.utils import parametrize

from stages.compression import Outcome
from stages.core.errors import ConfigError, Unsupported
from stages.models.examples import Examples
from stages.models.recovery import before, recover
from stages.schema.compression import NOfM, PruneMagnitude, Unstructured

SPLITS = ("train", "validation")


class Masked(torch.nn.Module):
    """A parametrisation: whatever an optimiser does to the weight, the mask's zeros stay zeros."""

    def __init__(self, mask: torch.Tensor) -> None:
        """Hold a mask of 0 and 1, of the weight's shape."""
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the weight with its zeros; no gradient passes them."""
        return weight * self.mask


def apply(model: Any, tokenizer: Any, splits: Mapping[str, Examples], params: PruneMagnitude) -> Outcome:
    """Prune and recover `model` in place: every matrix of a Linear or an Embedding, each by itself.

    Args:
        model: the checkpoint to prune.
        tokenizer: for token masking during recovery.
        splits: `train` recovers; `validation` is only reported on.
        params: which share goes, and how to recover.

    Raises:
        Unsupported: rows that do not divide into groups of M.
        ConfigError: the sparsity is too small for any matrix.
    """
    known = before(model, splits, params.recovery)
    found = {name: (module, choose(module.weight.detach(), params.pattern, name)) for name, module in _matrices(model)}
    zeros = sum(int((mask == 0).sum()) for _, mask in found.values())
    if zeros == 0:
        raise ConfigError("the sparsity is too small to remove a weight", expected="a larger one, or kind 'none'")
    size = _zlib_bytes(model)
    for module, mask in found.values():
        parametrize.register_parametrization(module, "weight", Masked(mask))
    notes, history = recover(model, tokenizer, splits, params.recovery, known)
    for module, _ in found.values():
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    total = sum(mask.numel() for _, mask in found.values())
    sizes = {"zlib_bytes_before": size, "zlib_bytes": _zlib_bytes(model)}
    return Outcome(model, {"weights": zeros, "share_of_matrices": zeros / total, **sizes, **notes}, history)


def choose(weight: torch.Tensor, pattern: Unstructured | NOfM, name: str) -> torch.Tensor:
    """Mark the weights to keep, those of the largest magnitude.

    Args:
        weight: [out, in]; of an embedding [words, width].
        pattern: a share of the whole matrix, or so many of every M neighbours in a row.
        name: for messages.

    Returns:
        1 where a weight stays, 0 where it goes; shaped like `weight`. Ties go by position, so that exactly as many go
        as were asked for.

    Raises:
        Unsupported: the rows do not divide into groups of M.
    """
    if isinstance(pattern, Unstructured):
        return _keep(weight.reshape(1, -1), weight.numel() - int(pattern.sparsity * weight.numel())).reshape(
            weight.shape
        )
    if weight.shape[1] % pattern.of:
        raise Unsupported(
            f"'{name}' has rows of {weight.shape[1]} weights, which no {pattern.of} divide",
            expected="another `of`, or an unstructured pattern",
        )
    return _keep(weight.reshape(-1, pattern.of), pattern.keep).reshape(weight.shape)


def _keep(rows: torch.Tensor, count: int) -> torch.Tensor:
    strongest = rows.abs().argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(rows).scatter_(1, strongest, 1.0)


def _matrices(model: Any) -> Iterator[tuple[str, torch.nn.Module]]:
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            yield name, module


def _zlib_bytes(model: Any) -> int:
    """Size of the fp32 weights once compressed: what a download saves, whatever the platform's format."""
    return sum(len(zlib.compress(weight.detach().numpy().tobytes(), 9)) for weight in model.parameters())
