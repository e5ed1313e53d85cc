"""How well outputs agree with the reference's, and how good the answers are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.measure.statistics import Interval, paired_difference, proportion_interval

FloatArray = NDArray[np.float32] | NDArray[np.float64]
Values = dict[str, float]


def softmax(logits: FloatArray) -> NDArray[np.float64]:
    """Probabilities over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exponent = np.exp(shifted)
    return np.asarray(exponent / exponent.sum(axis=-1, keepdims=True))


def kl_divergence(*, reference: FloatArray, outputs: FloatArray) -> NDArray[np.float64]:
    """KL(softmax(reference) ‖ softmax(outputs)) of each row, in nats; [n, labels] → [n]."""

    def log_softmax(logits: FloatArray) -> NDArray[np.float64]:
        shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))

    expected, actual = log_softmax(reference), log_softmax(outputs)
    # Rounding can leave a divergence of equal rows a hair below zero.
    return np.asarray(np.maximum((np.exp(expected) * (expected - actual)).sum(axis=-1), 0.0))


def non_finite_count(outputs: FloatArray) -> int:
    """Number of NaN and infinite values."""
    return int((~np.isfinite(outputs)).sum())


def measure_parity(*, reference: FloatArray, outputs: FloatArray) -> tuple[Values, dict[str, Interval]]:
    """Numeric agreement of an artifact with the reference on the same inputs.

    Args:
        reference: [n, labels] fp32 logits of the compressed checkpoint in torch.
        outputs: [n, labels] logits of the artifact.

    Returns:
        Metric values, and 95 % intervals for those that are rates. Where any output is not finite only
        `non_finite_count` and `n` are given: an error of NaN is not a number.

    Raises:
        ValueError: shapes differ, or there is nothing to compare.
    """
    if reference.shape != outputs.shape or reference.size == 0:
        raise ValueError(f"reference {reference.shape} and outputs {outputs.shape} must have one non-empty shape")
    n, bad = len(reference), non_finite_count(outputs)
    if bad:
        return {"non_finite_count": bad, "n": n}, {}
    error = np.abs(reference.astype(np.float64) - outputs)
    divergence = kl_divergence(reference=reference, outputs=outputs)
    cosines = cosine_similarity(reference, outputs)
    same = reference.argmax(axis=-1) == outputs.argmax(axis=-1)
    values = {
        "max_abs_error": float(error.max()),
        "relative_max_error": float(error.max() / max(float(reference.std()), np.finfo(np.float32).tiny)),
        "mean_abs_error": float(error.mean()),
        "cosine_similarity_min": float(cosines.min()),
        "cosine_similarity_p01": float(np.quantile(cosines, 0.01)),
        "kl_divergence_mean": float(divergence.mean()),
        "kl_divergence_max": float(divergence.max()),
        "top1_agreement": float(same.mean()),
        "non_finite_count": 0,
        "n": n,
    }
    return values, {"top1_agreement": proportion_interval(int(same.sum()), n)}


def cosine_similarity(reference: FloatArray, outputs: FloatArray) -> NDArray[np.float64]:
    """Cosine of each row, [n, labels] → [n]; a zero row has cosine 0 with everything but another zero row."""
    first, second = reference.astype(np.float64), outputs.astype(np.float64)
    norms = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    dot = (first * second).sum(axis=-1)
    both_zero = (np.linalg.norm(first, axis=-1) + np.linalg.norm(second, axis=-1)) == 0
    cosine = np.divide(dot, norms, out=np.zeros_like(dot), where=norms > 0)
    return np.where(both_zero, 1.0, cosine).clip(-1, 1)


def measure_quality(
    *, labels: NDArray[np.int64], outputs: FloatArray, reference: FloatArray, teacher: FloatArray
) -> tuple[Values, dict[str, Interval]]:
    """Task quality of an artifact, paired with the reference and the teacher on the same items.

    Args:
        labels: [n] right answers; -1 where unknown, and then the item counts nowhere.
        outputs: [n, labels] logits of the artifact.
        reference: [n, labels] logits of the compressed checkpoint in torch.
        teacher: [n, labels] logits of the teacher in torch.

    Returns:
        Values and 95 % intervals of `accuracy` and the two drops.

    Raises:
        ValueError: outputs are not finite, or no item has a label.
    """
    if non_finite_count(outputs):
        raise ValueError("outputs are not finite; accuracy would be of NaN")
    known = labels >= 0
    if not known.any():
        raise ValueError(f"none of {len(labels)} items has a label; accuracy would be of nothing")
    right = (outputs.argmax(axis=-1) == labels)[known]
    values: Values = {"accuracy": float(right.mean())}
    intervals: dict[str, Interval] = {"accuracy": proportion_interval(int(right.sum()), len(right))}
    for name, other in (("reference", reference), ("teacher", teacher)):
        key = f"accuracy_drop_to_{name}"
        values[key], intervals[key] = paired_difference((other.argmax(axis=-1) == labels)[known], right)
    return values, intervals
