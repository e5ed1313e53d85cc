"""Learn back what a compression cost: short distillation from the checkpoint as it was before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from stages.models import training
from stages.models.examples import Examples
from stages.models.objective import Guidance, remembered
from stages.models.training import Row
from stages.schema.compression import Recovery


@dataclass(frozen=True)
class Utterances(Examples):
    """A split to compress with.

    Attributes:
        encode: encodes its texts with another tokenizer, for compressions that change it.
    """

    encode: Callable[[Any], Examples]


@dataclass(frozen=True)
class Before:
    """What a checkpoint answered before it was compressed.

    Attributes:
        guidance: its view of the train split, None where nothing is learnt back.
        accuracy: on the validation split.
    """

    guidance: Guidance | None
    accuracy: float


def before(model: Any, splits: Mapping[str, Examples], recovery: Recovery | None) -> Before:
    """Ask a checkpoint what it answers, before anything is taken from it.

    Args:
        model: the checkpoint in eval mode.
        splits: `train` and `validation`.
        recovery: how to learn it back, None not to.
    """
    guidance = None
    if recovery is not None:
        wanted = remembered(model, splits["train"].encoded)
        guidance = Guidance(
            wanted,
            recovery.temperature,
            recovery.kl_weight,
            recovery.ce_weight,
            teacher=deepcopy(model) if wanted is None else None,
        )
    return Before(guidance, training.accuracy(model, splits["validation"]))


def recover(
    model: Any, tokenizer: Any, splits: Mapping[str, Examples], recovery: Recovery | None, known: Before
) -> tuple[dict[str, float], list[Row]]:
    """Train `model` in place towards what it answered before.

    Args:
        model: the compressed model; it must hold its own constraints (zeros, shared weights) while it trains.
        tokenizer: for token masking.
        splits: `train` learns; `validation` is only reported on.
        recovery: the settings, None to train nothing.
        known: what the checkpoint answered before.

    Returns:
        Validation accuracy before, once compressed, and (where it trained) recovered; the learning curve.
    """
    notes = {
        "validation_accuracy_before": known.accuracy,
        "validation_accuracy_compressed": training.accuracy(model, splits["validation"]),
    }
    if recovery is None:
        return notes, []
    history = training.fit(
        model,
        tokenizer,
        splits["train"],
        splits["validation"],
        recovery.training,
        guidance=known.guidance,
        title="recover",
    )
    return notes | {"validation_accuracy_recovered": training.accuracy(model, splits["validation"])}, history
