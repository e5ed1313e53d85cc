"""What a checkpoint scores on the test split, in the terms of `evaluation.json`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.splits import UNKNOWN
from stages.measure.statistics import rate_interval
from stages.models.examples import Examples


def evaluation(model: Any, logits: NDArray[np.float32], test: Examples) -> dict[str, Any]:
    """Score a checkpoint.

    Args:
        model: the checkpoint, for its parameter count.
        logits: float32 [items, classes] of the test split.
        test: that split, with the right classes.

    Returns:
        `accuracy` (fraction), `accuracy_interval` (95 %), `n` (labelled items), `parameters`.

    Raises:
        InputError: no item of the test split has a label, or a logit is not finite.
    """
    labels = test.labels
    known = labels != UNKNOWN
    if not known.any():
        raise InputError("no text of the test split has a label", expected="labelled texts to measure accuracy on")
    if not np.isfinite(logits).all():
        raise InputError("the checkpoint answers NaN or infinite logits", next_step="check its weights")
    right = (logits.argmax(axis=1) == labels)[known]
    return {
        "accuracy": int(right.sum()) / len(right),
        "accuracy_interval": list(rate_interval(right, test.case[known])),
        "n": len(right),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
