"""The last operation of a classifier (MIL: `classify.py`)."""

from __future__ import annotations

import numpy as np

from stages.coreml.errors import Mismatch
from stages.coreml.registry import Labels, Tensor, op


@op("classify", returns=(None, None))
def classify(probabilities: Tensor, classes: Labels) -> tuple[object, dict[object, float]]:
    """The likeliest class and every class's probability."""
    scores = probabilities.reshape(-1)
    if scores.size != len(classes) or len(set(classes)) != len(classes):
        raise Mismatch(f"{scores.size} probabilities for {len(classes)} classes")
    ranked = dict(zip(classes, scores.tolist(), strict=True))
    return classes[int(np.argmax(scores))], ranked
