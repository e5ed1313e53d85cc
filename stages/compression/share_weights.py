"""Let every matrix hold few distinct values: k-means tables, weighted by what the loss feels of each weight.

The result is an ordinary checkpoint. A format with look-up tables (Core ML's `pal`) stores it without another loss;
others round it again, and gain only in a compressed download.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils import parametrize

from stages.compression import Outcome
from stages.core.errors import ConfigError
from stages.models import importance
from stages.models.examples import Examples
from stages.models.objective import cross_entropy
from stages.models.recovery import before, recover
from stages.schema.compression import ShareWeights

SPLITS = ("train", "validation")

# Smallest weight of a weight, in units of the mean: rows that no utterance reads still keep their place.
FLOOR = 1e-3
# Matrices below this cost more as a table than they save.
SMALLEST = 1024
ITERATIONS = 50

FloatArray = NDArray[np.float64]


class Palette(torch.nn.Module):
    """A parametrisation: a matrix read from tables of values that an optimiser moves; who shares with whom is fixed."""

    def __init__(self, values: torch.Tensor, index: torch.Tensor) -> None:
        """Hold the tables' values, float [n], and for each weight the place of its value, int64 like the matrix."""
        super().__init__()
        self.values = torch.nn.Parameter(values)
        self.register_buffer("index", index)

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        """Return the matrix; what it was before is not looked at."""
        found: torch.Tensor = self.values[self.index]
        return found


def apply(model: Any, tokenizer: Any, splits: Mapping[str, Examples], params: ShareWeights) -> Outcome:
    """Palettise and recover `model` in place: every matrix of a Linear or an Embedding of 1,024 elements or more.

    Args:
        model: the checkpoint.
        tokenizer: for token masking during recovery.
        splits: `train` measures sensitivity and recovers; `validation` is only reported on.
        params: bits, groups, and how to recover.

    Raises:
        ConfigError: groups that do not divide a matrix's rows, or no matrix is large enough.
    """
    known = before(model, splits, params.recovery)
    matrices = dict(_matrices(model))
    if not matrices:
        raise ConfigError(f"the checkpoint has no matrix of {SMALLEST} elements", expected="a larger one")
    felt = sensitivity(model, matrices, importance.sample(splits["train"], params.sensitivity_utterances))
    palettes: dict[int, Palette] = {}
    for path, module in matrices.items():
        weight, rows = module.weight, params.group_rows or len(module.weight)
        if id(weight) not in palettes:  # a head that is the table of words has its values too
            palettes[id(weight)] = _palette(weight.detach().numpy(), felt[path], params.bits, min(rows, len(weight)))
        palette = palettes[id(weight)]
        weight.requires_grad_(False)
        parametrize.register_parametrization(module, "weight", palette)
    notes, history = recover(model, tokenizer, splits, params.recovery, known)
    for module in matrices.values():
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
        module.weight.requires_grad_(True)
    distinct = max(len(module.weight.unique()) for module in matrices.values())
    return Outcome(model, {"matrices": len(matrices), "most_distinct_values": distinct, **notes}, history)


def cluster(values: FloatArray, weights: FloatArray, size: int) -> tuple[FloatArray, NDArray[np.int64]]:
    """Weighted k-means on a line (Lloyd), from quantiles of the weights: the same in every process.

    Source of the weighting: Kim et al., SqueezeLLM (2024), eq. 4: the loss rises by ½ Σ F (w − centroid)² with the
    diagonal of the Fisher matrix, F = E[g²].

    Args:
        values: float64 [n].
        weights: float64 [n], above 0.
        size: most centroids.

    Returns:
        Ascending centroids, and for each value the place of its own, int64 [n].
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    distinct = np.unique(ordered)
    if len(distinct) <= size:
        return distinct, np.searchsorted(distinct, values)
    mass = np.concatenate([[0.0], np.cumsum(weights[order])])
    moment = np.concatenate([[0.0], np.cumsum(weights[order] * ordered)])
    quantiles = np.searchsorted(mass[1:], mass[-1] * (np.arange(size) + 0.5) / size)
    centroids = np.unique(ordered[np.minimum(quantiles, len(ordered) - 1)])
    for _ in range(ITERATIONS):
        edges = np.searchsorted(ordered, (centroids[1:] + centroids[:-1]) / 2)
        cuts = np.concatenate([[0], edges, [len(ordered)]])
        inside = np.diff(cuts) > 0
        moved = (np.diff(moment[cuts])[inside]) / np.diff(mass[cuts])[inside]
        if len(moved) == len(centroids) and np.array_equal(moved, centroids):
            break
        centroids = moved
    return centroids, np.searchsorted((centroids[1:] + centroids[:-1]) / 2, values)


def sensitivity(model: Any, matrices: Mapping[str, Any], sample: Examples) -> dict[str, FloatArray]:
    """Measure the diagonal of the Fisher matrix: the mean over utterances of the loss's squared gradient.

    Args:
        model: the checkpoint in eval mode.
        matrices: path → module.
        sample: labelled utterances.

    Returns:
        Path → float64, shaped like the module's weight.
    """
    weights = {path: module.weight for path, module in matrices.items()}
    totals = {path: torch.zeros_like(weight) for path, weight in weights.items()}
    for row, length in enumerate(sample.encoded.lengths):
        one = sample.take([row])
        ids = torch.from_numpy(one.encoded.input_ids[:, :length].astype(np.int64))
        mask = torch.ones_like(ids)
        answers = one.items(model(input_ids=ids, attention_mask=mask).logits, mask)
        loss = cross_entropy(answers, torch.from_numpy(one.labels))
        for path, gradient in zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True):
            totals[path] += gradient.square()
    return {path: total.double().numpy() / len(sample) for path, total in totals.items()}


def _palette(weight: NDArray[np.float32], felt: FloatArray, bits: int, rows: int) -> Palette:
    """Cluster a matrix, each group of rows with a table of its own."""
    if len(weight) % rows:
        raise ConfigError(
            f"groups of {rows} rows do not divide a matrix of {len(weight)}", expected="null, or a divisor"
        )
    floor = FLOOR * max(float(felt.mean()), np.finfo(np.float64).tiny)
    tables, index, start = [], np.empty(weight.shape, np.int64), 0
    for first in range(0, len(weight), rows):
        part = slice(first, first + rows)
        values, weights = weight[part].ravel().astype(np.float64), np.maximum(felt[part], floor).ravel()
        centroids, places = cluster(values, weights, 2**bits)
        index[part] = (places + start).reshape(weight[part].shape)
        tables.append(centroids)
        start += len(centroids)
    return Palette(torch.from_numpy(np.concatenate(tables).astype(np.float32)), torch.from_numpy(index))


def _matrices(model: Any) -> Iterator[tuple[str, Any]]:
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding) and module.weight.numel() >= SMALLEST:
            yield path, module
