"""Compute GELUs by a formula that accelerators have operators for; what that changes is measured, and may be recovered.

NNAPI has no GELU, and an error function can be written in none of its operators.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stages.compression import Outcome
from stages.measure.metrics import kl_divergence
from stages.measure.statistics import mean_interval, rate_interval
from stages.models import gelu
from stages.models.recovery import Utterances, before, recover
from stages.schema.compression import ApproximateGelu

SPLITS = ("train", "validation")


def apply(model: Any, tokenizer: Any, splits: Mapping[str, Utterances], params: ApproximateGelu) -> Outcome:
    """Approximate every GELU and recover `model` in place.

    Args:
        model: the checkpoint.
        tokenizer: for token masking during recovery.
        splits: `train` recovers; on `validation` the answers before and after are compared.
        params: the approximation, and how to recover.

    Raises:
        Unsupported: the checkpoint has no GELU to approximate, or its family cannot have the approximation.
    """
    validation = splits["validation"]
    known = None if params.recovery is None else before(model, splits, params.recovery)
    was = validation.answers(model)
    paths = gelu.approximate(model, params.by)
    now, labels = validation.answers(model), validation.labels
    same = was.argmax(axis=1) == now.argmax(axis=1)
    divergence = kl_divergence(reference=was, outputs=now)
    notes: dict[str, Any] = {
        "activations": paths,
        "agreement": float(same.mean()),
        "agreement_interval": rate_interval(same, validation.case),
        "kl_divergence_mean": float(divergence.mean()),
        "kl_divergence_mean_interval": mean_interval(divergence, validation.case),
        "relative_max_error": float(np.abs(now - was).max() / was.std()),
        "validation_accuracy_before": float((was.argmax(axis=1) == labels).mean()),
        "validation_accuracy_compressed": float((now.argmax(axis=1) == labels).mean()),
    }
    if known is None:
        return Outcome(model, notes)
    more, history = recover(model, tokenizer, splits, params.recovery, known)
    return Outcome(model, {**notes, **more}, history)
