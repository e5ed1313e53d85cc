"""Replace embeddings and linear layers by products of two smaller ones, fitted to what they see, then recover."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from stages.compression import Outcome
from stages.core.errors import ConfigError
from stages.models import encode, importance
from stages.models.blocks import blocks
from stages.models.examples import Examples
from stages.models.recovery import before, recover
from stages.models.reshape import lower_rank
from stages.schema.compression import Factorize

SPLITS = ("train", "validation")

# Added to a covariance's diagonal, in units of its mean: directions that no utterance takes still count a little.
RIDGE = 1e-4


def apply(model: Any, tokenizer: Any, splits: Mapping[str, Examples], params: Factorize) -> Outcome:
    """Factorise and recover `model` in place.

    Args:
        model: the checkpoint.
        tokenizer: for token masking during recovery.
        splits: `train` shows what the matrices see, and recovers; `validation` is only reported on.
        params: the ranks.

    Raises:
        Unsupported: a family whose layers are not known.
        ConfigError: ranks at which nothing becomes smaller.
    """
    ranks = choose(model, params)
    if not ranks:
        raise ConfigError(
            f"ranks {params.embedding_rank} and {params.linear_rank} make no matrix smaller",
            expected="a rank below in × out / (in + out)",
        )
    known = before(model, splits, params.recovery)
    sample = importance.sample(splits["train"], params.utterances)
    modules = {path: model.get_submodule(path) for path in ranks}
    seen = covariances(model, modules, sample)
    lower_rank(model, ranks)
    errors = {path: _fill(model.get_submodule(path), modules[path], seen[path], rank) for path, rank in ranks.items()}
    notes, history = recover(model, tokenizer, splits, params.recovery, known)
    return Outcome(model, {"ranks": ranks, "relative_errors": errors, **notes}, history)


def choose(model: Any, params: Factorize) -> dict[str, int]:
    """Name the matrices that become smaller at the asked ranks: path → rank."""
    table = model.get_input_embeddings()
    linears = [part for block in blocks(model) for part in (block.query, block.key, block.value, block.output)]
    linears += [part for block in blocks(model) for ffn in block.ffns for part in (*ffn.rows, ffn.down)]
    wanted = {table: params.embedding_rank or 0} | dict.fromkeys(linears, params.linear_rank or 0)
    ranks = {path: wanted[module] for path, module in model.named_modules() if wanted.get(module)}
    matrices = {path: model.get_submodule(path).weight for path in ranks}
    return {path: rank for path, rank in ranks.items() if rank * sum(matrices[path].shape) < matrices[path].numel()}


def factors(weight: torch.Tensor, covariance: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Approximate a matrix where its inputs are: minimise E‖(W − UV)x‖² over all U, V of a rank.

    With covariance C = E[xxᵀ] = SSᵀ that is ‖WS − UVS‖², so the truncated SVD of WS gives U, and V after S is taken
    out again. Source: Wang et al., SVD-LLM (2024), section 3.1.

    Args:
        weight: W, [out, in].
        covariance: C, [in, in], of the inputs.
        rank: columns of U.

    Returns:
        U [out, rank] and V [rank, in].
    """
    root = torch.linalg.cholesky(_raised(covariance))
    left, values, right = torch.linalg.svd(weight.double() @ root, full_matrices=False)
    scale = values[:rank].sqrt()
    inner = torch.linalg.solve_triangular(root, scale[:, None] * right[:rank], upper=False, left=False)
    return (left[:, :rank] * scale).float().contiguous(), inner.float().contiguous()


def covariances(model: Any, modules: Mapping[str, torch.nn.Module], sample: Examples) -> dict[str, torch.Tensor]:
    """Measure what matrices see on real tokens.

    Args:
        model: the checkpoint in eval mode.
        modules: path → Linear or Embedding.
        sample: utterances.

    Returns:
        Path → E[xxᵀ] of a Linear's inputs, [in, in]; of an Embedding how often each row is read, [words].
    """
    totals: dict[str, torch.Tensor] = {}
    with _watching(modules, totals):
        # One utterance at a time: no padding enters.
        encode.logits(model, sample.encoded, batch_size=1)
    return totals


@contextmanager
def _watching(modules: Mapping[str, torch.nn.Module], totals: dict[str, torch.Tensor]) -> Iterator[None]:
    def watch(path: str, module: torch.nn.Module, values: torch.Tensor) -> None:
        if isinstance(module, torch.nn.Embedding):
            found = torch.bincount(values.reshape(-1), minlength=module.num_embeddings).double()
        else:
            rows = values.reshape(-1, values.shape[-1]).double()
            found = rows.T @ rows
        totals[path] = totals.get(path, 0) + found

    handles = [
        module.register_forward_pre_hook(lambda module, inputs, path=path: watch(path, module, inputs[0]))
        for path, module in modules.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _fill(lowered: Any, module: Any, seen: torch.Tensor, rank: int) -> float:
    """Set the two factors; return the size of the output's error in relation to the output, on what was seen."""
    weight = module.weight.detach()
    if isinstance(module, torch.nn.Embedding):
        table, project = embedding_factors(weight, seen, rank)
        lowered.weight.data, lowered.project.weight.data = table, project.T.contiguous()
        return _relative(*(part.double().T * seen.sqrt() for part in (weight - table @ project, weight)))
    outer, inner = factors(weight, seen, rank)
    lowered.inner.weight.data, lowered.outer.weight.data = inner, outer
    if module.bias is not None:
        lowered.outer.bias.data = module.bias.detach().clone()
    root = torch.linalg.cholesky(_raised(seen))
    return _relative(*(part.double() @ root for part in (weight - outer @ inner, weight)))


def embedding_factors(table: torch.Tensor, counts: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Approximate a table where it is read: minimise Σ counts‖row − row PPᵀ‖² over projections P of a rank.

    Args:
        table: [words, width].
        counts: how often each row is read; rows that never are count half as much as one read once.
        rank: columns that are left.

    Returns:
        Table [words, rank] and Pᵀ [rank, width].
    """
    weighted = table.double() * (counts + 0.5).sqrt()[:, None]
    directions = torch.linalg.svd(weighted, full_matrices=False).Vh[:rank]
    return (table.double() @ directions.T).float().contiguous(), directions.float()


def _raised(covariance: torch.Tensor) -> torch.Tensor:
    mean = covariance.diagonal().mean()
    return covariance.double() + RIDGE * mean * torch.eye(len(covariance), dtype=torch.float64)


def _relative(error: torch.Tensor, whole: torch.Tensor) -> float:
    return float(error.norm() / whole.norm())
