"""Remove whole attention heads and FFN units by measured importance, then recover by distillation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.compression import Outcome
from stages.core.errors import ConfigError
from stages.models import importance, profile
from stages.models.blocks import blocks, heads_left, keep_ffn_units, remove_heads
from stages.models.examples import Examples
from stages.models.families import family_of
from stages.models.families.base import Block
from stages.models.importance import Importance
from stages.models.recovery import before, recover
from stages.schema.compression import PruneStructured

SPLITS = ("train", "validation")

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Cut:
    """The least that can go: a head, or a unit of every FFN at once, as config.json has one number for all.

    Attributes:
        cost: change of the loss, squared; nats².
        freed: parameters.
        head: its block and position, None for units.
        everywhere: heads of every block at once, where config.json has one number for them too.
    """

    cost: float
    freed: int
    head: tuple[int, int] | None
    everywhere: int = 0


def apply(model: Any, tokenizer: Any, splits: Mapping[str, Examples], params: PruneStructured) -> Outcome:
    """Prune and recover `model` in place.

    Args:
        model: the student.
        tokenizer: for token masking during recovery.
        splits: `train` measures importance and recovers; `validation` is only reported on.
        params: what to remove and how to recover.

    Raises:
        Unsupported: a family whose layers are not known.
        ConfigError: the fractions remove nothing, or more heads than can go; a budget that the model meets or cannot.
    """
    found = importance.measure(model, importance.sample(splits["train"], params.importance_utterances))
    heads, kept = _choose(model, found, params)
    units, left = len(found[0].ffns[0]), len(kept[0][0])
    if not heads and units == left:
        raise ConfigError("the fractions are too small to remove anything", expected="larger ones, or kind 'none'")
    known = before(model, splits, params.recovery)
    originals = {layer: [heads_left(model, layer)[at] for at in positions] for layer, positions in heads.items()}
    remove_heads(model, originals)
    keep_ffn_units(model, kept)
    heads_removed = {str(layer): numbers for layer, numbers in originals.items()}
    sizes = {"parameters_budget": params.parameters, "parameters": profile.parameters(model)}
    notes, history = recover(model, tokenizer, splits, params.recovery, known)
    return Outcome(model, {"heads": heads_removed, "ffn_units_per_ffn": units - left, **sizes, **notes}, history)


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


def choose_as_many(scores: Sequence[FloatArray], count: int) -> dict[int, list[int]]:
    """Pick the `count` least important heads of every block: block → positions to remove."""
    weakest = {layer: sorted(np.argsort(block, kind="stable")[:count].tolist()) for layer, block in enumerate(scores)}
    return {layer: positions for layer, positions in weakest.items() if positions}


def choose_units(scores: Sequence[Sequence[FloatArray]], fraction: float) -> list[list[list[int]]]:
    """Pick the FFN units to keep, the most important ones, equally many in every FFN.

    Args:
        scores: [block][ffn][unit].
        fraction: share of the units to remove, rounded down.

    Returns:
        [block][ffn] → ascending unit numbers.
    """
    return [[_strongest(ffn, len(ffn) - _share(fraction, len(ffn))) for ffn in block] for block in scores]


def choose_cuts(cuts: Sequence[Cut], size: int, budget: int) -> list[Cut]:
    """Pick the cuts that cost least per parameter freed until a model fits a budget.

    What the last cut leaves room for stays after all, the dearest first.

    Args:
        cuts: all that can go.
        size: parameters now.
        budget: most parameters that may be left.

    Raises:
        ConfigError: the model fits already, or does not fit without all that can go.
    """
    least = size - sum(cut.freed for cut in cuts)
    if budget >= size:
        raise ConfigError(f"the checkpoint's {size} parameters fit {budget} already", expected=f"below {size}")
    if budget < least:
        raise ConfigError(
            f"parameters {budget} is out of reach: a head of every layer and a unit of every FFN stay",
            expected=f"at least {least}",
        )
    ranked, taken = sorted(cuts, key=lambda cut: cut.cost / cut.freed), list[Cut]()
    for cut in ranked:
        if size > budget:
            taken.append(cut)
            size -= cut.freed
    for cut in taken[::-1]:
        if size + cut.freed <= budget:
            taken.remove(cut)
            size += cut.freed
    return taken


def list_cuts(found: Sequence[Importance], parts: Sequence[Block], width: int | None = None) -> Iterator[Cut]:
    """List all that can go: heads of every block but its strongest, and FFN units, weakest first, but the last.

    Heads and units compare as squares of their importance, which is how Molchanov et al. (2019) define it: changes of
    a loss that agree in no sign add up in squares. Their sum counts many units far too dear: of a CLINC150 student's
    FFN, 384 of 512 units promise 0.118 nats and cost 0.008, the root of the squares' sum promises 0.006; its weaker
    head promises 0.028 and costs 0.050. Nothing is scaled within a layer, as that criterion needs none.

    Args:
        found: per block.
        parts: the blocks, for what their heads and units hold; layers that share one count once.
        width: of the layers, which the heads left must divide where config.json has one number of them; None where
            every block may keep another number.
    """
    if width is None:
        yield from _heads(found, parts)
    else:
        yield from _heads_everywhere(found, parts, width)
    freed = sum(ffn.unit_parameters for part in parts for ffn in part.ffns)
    ranked = np.stack([np.sort(ffn) for block in found for ffn in block.ffns])
    for cost in np.square(ranked).sum(axis=0)[:-1].tolist():
        yield Cut(cost, freed, None)


def _heads(found: Sequence[Importance], parts: Sequence[Block]) -> Iterator[Cut]:
    for layer, (block, part) in enumerate(zip(found, parts, strict=True)):
        for head in np.argsort(block.heads, kind="stable")[:-1].tolist():
            yield Cut(float(block.heads[head]) ** 2, part.head_parameters, (layer, head))


def _heads_everywhere(found: Sequence[Importance], parts: Sequence[Block], width: int) -> Iterator[Cut]:
    """Yield steps from one number of heads that divides the width to the next smaller one."""
    ranked = np.square(np.stack([np.sort(block.heads) for block in found])).sum(axis=0)
    freed, taken = sum(part.head_parameters for part in parts), 0
    for gone in range(1, len(ranked)):
        if width % ((len(ranked) - gone) * parts[0].shared) == 0:
            yield Cut(float(ranked[taken:gone].sum()), freed * (gone - taken), None, everywhere=gone - taken)
            taken = gone


def _choose(
    model: Any, found: Sequence[Importance], params: PruneStructured
) -> tuple[dict[int, list[int]], list[list[list[int]]]]:
    """Return block → positions of the heads to remove, and [block][ffn] → units to keep."""
    scores, of_heads = [block.ffns for block in found], [block.heads for block in found]
    family = family_of(model.config)
    if params.parameters is None:
        assert params.heads_fraction is not None
        assert params.ffn_fraction is not None
        if family.head_size:
            heads = choose_as_many(of_heads, _share(params.heads_fraction, len(of_heads[0])))
        else:
            heads = choose_heads(of_heads, params.heads_fraction)
        return heads, choose_units(scores, params.ffn_fraction)
    width = getattr(model.config, family.hidden_size) if family.head_size else None
    cuts = choose_cuts([*list_cuts(found, blocks(model), width)], profile.parameters(model), params.parameters)
    heads = choose_as_many(of_heads, sum(cut.everywhere for cut in cuts))
    for layer, head in sorted(cut.head for cut in cuts if cut.head is not None):
        heads.setdefault(layer, []).append(head)
    left = len(scores[0][0]) - sum(cut.head is None and not cut.everywhere for cut in cuts)
    return heads, [[_strongest(ffn, left) for ffn in block] for block in scores]


def _share(fraction: float, total: int) -> int:
    return int(fraction * total + 1e-9)  # 0.7 × 10 is 6.999… in binary


def _scaled(scores: FloatArray) -> list[float]:
    norm = float(np.linalg.norm(scores))
    return [float(score) / norm if norm > 0 else 0.0 for score in scores]


def _strongest(scores: FloatArray, count: int) -> list[int]:
    return sorted(np.argsort(-scores, kind="stable")[:count].tolist())
