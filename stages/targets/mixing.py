"""Choose for every weight the cheaper of two precisions, as far as the model's answers allow it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from stages.core.errors import ConversionError, InputError
from stages.core.splits import UNKNOWN, spread
from stages.measure.metrics import kl_divergence
from stages.measure.top_logits import columns, keep
from stages.schema.variant import Mixed
from stages.targets.base import SIGNATURE, Session, read_signature
from stages.tasks import registry as tasks
from stages.tasks.base import MASK, Arrays

ANSWERS = 512
"""As many are measured on, or as many more as complete a text: a language model's has one for each token, and every
mixture that is tried is asked for all of them."""
Lower = Callable[[frozenset[str], Path], int]
"""Weights at the low precision, the others being at the high one, and a directory → bytes of the artifact there."""
Open = Callable[[Path, int], Session]
"""A directory with an artifact and its signature, and how many threads."""
Trial = dict[str, float]
"""`kl_divergence_mean` and `size_bytes` of a mixture."""
Attempt = Callable[[frozenset[str]], Trial]


def choose(
    groups: Sequence[str],
    precision: Mixed,
    calibration: Mapping[str, NDArray[Any]],
    converted: Path,
    lower: Lower,
    open_runtime: Open,
) -> dict[str, Any]:
    """Measure how sensitive each weight is, and lower as many as the budget allows, best bargains first.

    A bargain is little KL divergence for many bytes. It is measured with the one weight low and all others
    high; since it does not add up, each candidate mixture is measured as a whole: the most bargains within the budget
    are found by halving, then what is left is tried one by one.

    Args:
        groups: names of the weights.
        precision: the two precisions, the budget, and on how many utterances to measure, see `sample`.
        calibration: `input_ids` and `attention_mask`, int32 [n, max_length], right-padded.
        converted: output of `convert`, whose answers are what to diverge from.
        lower: writes an artifact.
        open_runtime: opens one.

    Returns:
        `low`: names of the weights to lower; `kl_divergence_mean` and `size_bytes` of `chosen`, `all_high` and
        `all_low`; `weights`: per weight `name`, `kl_divergence_mean` alone, `saved_bytes` and `precision`, most
        sensitive first.

    Raises:
        InputError: there is no utterance to measure on.
        ConversionError: the high precision alone is beyond the budget.
    """
    exercise = tasks.exercise(read_signature(converted).task)
    rows = sample(calibration, exercise.case, precision.utterances)
    answered = exercise.answer(open_runtime(converted, 1), rows)
    reference = [keep(logits, np.full(len(logits), UNKNOWN)) for logits in answered]

    def attempt(low: frozenset[str]) -> Trial:
        with tempfile.TemporaryDirectory() as scratch:
            size = lower(low, Path(scratch))
            shutil.copyfile(converted / SIGNATURE, Path(scratch) / SIGNATURE)
            pairs = zip(reference, exercise.answer(open_runtime(Path(scratch), 1), rows), strict=True)
            divergence = np.concatenate(
                [kl_divergence(reference=known, outputs=columns(one, classes)) for (known, classes), one in pairs]
            )
        return {"kl_divergence_mean": float(divergence.mean()), "size_bytes": size}

    high = attempt(frozenset())
    if not high["kl_divergence_mean"] <= precision.kl_budget:
        raise ConversionError(
            f"the high precision alone diverges by {high['kl_divergence_mean']:.2g} nat",
            expected=f"a kl_budget above that, which is {precision.kl_budget:g}",
        )
    alone = {name: attempt(frozenset({name})) for name in tqdm(groups, desc="sensitivity", leave=False)}
    cost = {name: one["kl_divergence_mean"] - high["kl_divergence_mean"] for name, one in alone.items()}
    saved = {name: int(high["size_bytes"] - one["size_bytes"]) for name, one in alone.items()}
    bargains = sorted((cost[name] / saved[name], name) for name in groups if saved[name] > 0)
    order = [name for _, name in bargains]
    lowest = attempt(frozenset(order))
    low, found = _search(order, attempt, precision.kl_budget, high, lowest)
    return {
        "all_high": high,
        "all_low": lowest,
        "chosen": found,
        "kl_budget": precision.kl_budget,
        "low": sorted(low),
        "utterances": len(rows[MASK]),
        "weights": [
            {
                "kl_divergence_mean": alone[name]["kl_divergence_mean"],
                "name": name,
                "precision": "low" if name in low else "high",
                "saved_bytes": saved[name],
            }
            for name in sorted(groups, key=lambda name: (-cost[name], name))
        ],
    }


def _search(
    order: Sequence[str], attempt: Attempt, budget: float, high: Trial, lowest: Trial
) -> tuple[frozenset[str], Trial]:
    """Lower as many of the first of `order` as the budget bears, then what else it bears of the rest."""
    if lowest["kl_divergence_mean"] <= budget:
        return frozenset(order), lowest
    chosen, found, beyond = 0, high, len(order)
    while chosen + 1 < beyond:
        middle = (chosen + beyond) // 2
        trial = attempt(frozenset(order[:middle]))
        if trial["kl_divergence_mean"] <= budget:
            chosen, found = middle, trial
        else:
            beyond = middle
    low = frozenset(order[:chosen])
    for name in order[chosen + 1 :]:  # the next bargain was one too many; what is left may be smaller
        trial = attempt(low | {name})
        if trial["kl_divergence_mean"] <= budget:
            low, found = low | {name}, trial
    return low, found


def sample(calibration: Arrays, case: Callable[[Arrays], NDArray[np.int32]], count: int) -> dict[str, NDArray[Any]]:
    """Return texts of a split, evenly spread: as many as are asked for, or as hold `ANSWERS` if these are fewer.

    Args:
        calibration: arrays whose rows are texts.
        case: the text of each answer to a split.
        count: texts asked for.

    Raises:
        InputError: there is no text.
    """
    total = len(calibration[MASK])
    if not total:
        raise InputError("the calibration split is empty", expected="at least one utterance")
    enough = -(-ANSWERS * total // max(len(case(calibration)), 1))  # texts, of the mean number of answers
    return {name: values[spread(total, min(count, enough))] for name, values in calibration.items()}
