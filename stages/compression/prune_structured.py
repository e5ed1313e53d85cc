"""Remove whole attention heads and FFN units by measured importance, then recover by distillation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.compression import Outcome
from stages.core.errors import ConfigError
from stages.models import importance
from stages.models.blocks import heads_left, keep_ffn_units, remove_heads
from stages.models.recovery import before, recover
from stages.models.training import Examples
from stages.schema.compression import PruneStructured

SPLITS = ("train", "validation")

FloatArray = NDArray[np.float64]


def apply(model: Any, tokenizer: Any, splits: Mapping[str, Examples], params: PruneStructured) -> Outcome:
    """Prune and recover `model` in place.

    Args:
        model: the student.
        tokenizer: for token masking during recovery.
        splits: `train` measures importance and recovers; `validation` is only reported on.
        params: what to remove and how to recover.

    Raises:
        Unsupported: a family whose layers are not known.
        ConfigError: the fractions remove nothing, or more heads than can go.
    """
    found = importance.measure(model, importance.sample(splits["train"], params.importance_utterances))
    heads = choose_heads([block.heads for block in found], params.heads_fraction)
    kept = choose_units([block.ffns for block in found], params.ffn_fraction)
    units, left = len(found[0].ffns[0]), len(kept[0][0])
    if not heads and units == left:
        raise ConfigError("the fractions are too small to remove anything", expected="larger ones, or kind 'none'")
    known = before(model, splits, params.recovery)
    originals = {layer: [heads_left(model, layer)[at] for at in positions] for layer, positions in heads.items()}
    remove_heads(model, originals)
    keep_ffn_units(model, kept)
    notes, history = recover(model, tokenizer, splits, params.recovery, known)
    heads_removed = {str(layer): numbers for layer, numbers in originals.items()}
    return Outcome(model, {"heads": heads_removed, "ffn_units_per_ffn": units - left, **notes}, history)


def choose_heads(scores: Sequence[FloatArray], fraction: float) -> dict[int, list[int]]:
    """Pick the least important heads over all blocks, leaving each block at least one.

    Scores are scaled to norm 1 within a block first, as Michel et al. (2019) do: gradients grow towards the output,
    and unscaled the first layers would lose everything.

    Args:
        scores: [block][head].
        fraction: share of all heads to remove, rounded down.

    Returns:
        block → positions to remove; blocks that lose none are left out.

    Raises:
        ConfigError: that many heads cannot go.
    """
    total = sum(len(block) for block in scores)
    wanted = _share(fraction, total)
    if wanted > total - len(scores):
        raise ConfigError(
            f"heads_fraction {fraction:g} removes {wanted} of {total} heads; each of {len(scores)} layers keeps one",
            expected=f"at most {(total - len(scores)) / total:.4g}",
        )
    ranked = sorted(
        (score, layer, head) for layer, block in enumerate(scores) for head, score in enumerate(_scaled(block))
    )
    chosen: dict[int, list[int]] = {}
    for _, layer, head in ranked:
        if sum(map(len, chosen.values())) < wanted and len(chosen.get(layer, [])) < len(scores[layer]) - 1:
            chosen.setdefault(layer, []).append(head)
    return {layer: sorted(heads) for layer, heads in sorted(chosen.items())}


def choose_units(scores: Sequence[Sequence[FloatArray]], fraction: float) -> list[list[list[int]]]:
    """Pick the FFN units to keep, the most important ones, equally many in every FFN.

    Args:
        scores: [block][ffn][unit].
        fraction: share of the units to remove, rounded down.

    Returns:
        [block][ffn] → ascending unit numbers.
    """
    return [[_strongest(ffn, len(ffn) - _share(fraction, len(ffn))) for ffn in block] for block in scores]


def _share(fraction: float, total: int) -> int:
    return int(fraction * total + 1e-9)  # 0.7 × 10 is 6.999… in binary


def _scaled(scores: FloatArray) -> list[float]:
    norm = float(np.linalg.norm(scores))
    return [float(score) / norm if norm > 0 else 0.0 for score in scores]


def _strongest(scores: FloatArray, count: int) -> list[int]:
    return sorted(np.argsort(-scores, kind="stable")[:count].tolist())
