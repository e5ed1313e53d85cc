"""How good a checkpoint is at its task, in the terms of `evaluation.json` and of the reference's summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core import splits
from stages.core.errors import InputError
from stages.core.splits import UNKNOWN
from stages.measure.items import NO_ANSWER
from stages.measure.metrics import kept_answers
from stages.measure.top_logits import Logits
from stages.tasks import registry
from stages.tasks.facts import facts

WRONG = NO_ANSWER - 1
"""Stands for an answer that is no number: it is none of the classes, and counts."""


def score(task: str, case: NDArray[np.int32], wanted: NDArray[np.int64], logits: Logits) -> dict[str, Any]:
    """Measure the metric that the task's models are chosen by.

    Args:
        task: its name.
        case: [items] the text that each belongs to.
        wanted: [items] the right class, `UNKNOWN` where nobody knows it.
        logits: of the items; where one is not finite, the answer is wrong.

    Returns:
        The metric by its name, `NAME_interval` (95 %), and `n`, the items behind both.

    Raises:
        InputError: no item has a label.
    """
    if not (wanted != UNKNOWN).any():
        raise InputError("no text of the test split has a label", expected="labelled texts to measure quality on")
    given = kept_answers(logits, wanted)
    given = given._replace(answer=np.where(given.answer == NO_ANSWER, np.int32(WRONG), given.answer))
    part, metric = registry.quality(task).measure(case, wanted, given, given, given), facts(task).PRIMARY.metric
    return {
        metric: part["values"][metric],
        f"{metric}_interval": list(part["intervals"][metric]),
        "n": part["counts"][metric],
    }


def exposure(task: str, model: Any, tokenizer: Any, data: Path) -> dict[str, Any]:
    """Measure what a checkpoint that was trained on a data set tells of the canaries in it.

    Args:
        task: its name.
        model: the checkpoint, in eval mode.
        tokenizer: its tokenizer.
        data: output of `prepare`.

    Returns:
        `canary_exposure`, nothing where there are no canaries.
    """
    planted = splits.read_canaries(data)
    return {"canary_exposure": registry.model(task).exposure(model, tokenizer, planted)} if planted else {}


def evaluation(
    task: str, model: Any, case: NDArray[np.int32], wanted: NDArray[np.int64], logits: Logits
) -> dict[str, Any]:
    """Score a checkpoint on the test split.

    Args:
        task: its name.
        model: the checkpoint, for its parameter count.
        case: see `score`, like `wanted` and `logits`.
        wanted: see there.
        logits: see there; all finite.

    Returns:
        What `score` does, and `parameters`.

    Raises:
        InputError: no item has a label, or a logit is not finite.
    """
    scores = score(task, case, wanted, logits)
    if not np.isfinite(logits.values).all():
        raise InputError("the checkpoint answers NaN or infinite logits", next_step="check its weights")
    return {**scores, "parameters": sum(parameter.numel() for parameter in model.parameters())}
