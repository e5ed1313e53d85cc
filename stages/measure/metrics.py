"""The registry of metrics: name, unit, range and direction, once, for stages, gates and the report.

A gate whose metric is a fraction and whose threshold is in percent can never fire; here it cannot be written.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stages.measure.statistics import Interval, paired_difference, proportion_interval

FloatArray = NDArray[np.float32] | NDArray[np.float64]
Unit = Literal["fraction", "logit", "ratio", "cosine", "nat", "count", "ms", "byte"]
Values = dict[str, float]

RATE_ITEMS = 10
"""Fewest items of a rate: with fewer, its 95 % interval covers half of all possible rates."""


@dataclass(frozen=True)
class Metric:
    """What a number means.

    Attributes:
        name: flat key, unit included where there is one.
        unit: the only unit a threshold may be given in.
        better: which direction is an improvement.
        low: smallest possible value.
        high: largest possible value.
        meaning: one phrase for the report.
        interval: how its 95 % interval is computed (`statistics`), empty where it has none.
        min_n: fewest items on which it says anything.
    """

    name: str
    unit: Unit
    better: Literal["higher", "lower"]
    low: float
    high: float
    meaning: str
    interval: Literal["", "proportion", "paired", "quantile"] = ""
    min_n: int = 1

    def check_threshold(self, unit: str, *, at_least: float | None, at_most: float | None, min_n: int) -> None:
        """Refuse a bound in another unit, in the wrong direction, on too few items, or one that can never fire.

        Raises:
            ValueError: says which.
        """
        bound = at_least if at_least is not None else at_most
        if min_n < self.min_n:
            raise ValueError(f"'{self.name}' says nothing on {min_n} items: min_n must be {self.min_n} or more")
        if unit != self.unit:
            raise ValueError(f"'{self.name}' is measured in '{self.unit}', its threshold in '{unit}'")
        if (at_least is not None) != (self.better == "higher"):
            needed = "at_least" if self.better == "higher" else "at_most"
            raise ValueError(f"'{self.name}' is better {self.better}: use {needed}")
        fires = bound is not None and (
            self.low < bound <= self.high if at_least is not None else self.low <= bound < self.high
        )
        if not fires:
            raise ValueError(f"{bound} on '{self.name}' can never fire: its range is {self.low:g} to {self.high:g}")


REGISTRY: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("max_abs_error", "logit", "lower", 0, inf, "largest logit difference to the reference"),
        Metric("relative_max_error", "ratio", "lower", 0, inf, "max_abs_error over the reference's logit spread"),
        Metric("mean_abs_error", "logit", "lower", 0, inf, "mean logit difference to the reference"),
        Metric("cosine_similarity_min", "cosine", "higher", -1, 1, "worst cosine of an utterance's logits"),
        Metric("cosine_similarity_p01", "cosine", "higher", -1, 1, "cosine that 99 % of utterances reach", min_n=100),
        Metric("kl_divergence_mean", "nat", "lower", 0, inf, "mean KL(reference ‖ artifact)"),
        Metric("kl_divergence_max", "nat", "lower", 0, inf, "worst KL(reference ‖ artifact)"),
        Metric("weight_cosine_min", "cosine", "higher", -1, 1, "worst match of a weight matrix in the artifact"),
        Metric("weights_beyond_count", "count", "lower", 0, inf, "weight elements that rounding cannot explain"),
        Metric("activations_beyond_count", "count", "lower", 0, inf, "activations that their integers do not fit"),
        Metric("structure_difference_count", "count", "lower", 0, inf, "operators and settings the conversion has not"),
        Metric("conversion_weight_error_max", "ratio", "lower", 0, inf, "worst element of a weight after conversion"),
        Metric(
            "conversion_relative_max_error", "ratio", "lower", 0, inf, "logit error before quantisation, over spread"
        ),
        Metric("form_relative_error", "ratio", "lower", 0, inf, "logit change when a text is padded or batched"),
        Metric("calibration_overlap", "fraction", "lower", 0, 1, "share of test utterances seen in calibration"),
        Metric("calibration_agreement", "fraction", "higher", 0, 1, "equal answers when calibrated on either half"),
        Metric(
            "top1_agreement",
            "fraction",
            "higher",
            0,
            1,
            "share of utterances with the reference's answer",
            "proportion",
            RATE_ITEMS,
        ),
        Metric("non_finite_count", "count", "lower", 0, inf, "logits that are NaN or infinite"),
        Metric(
            "accuracy", "fraction", "higher", 0, 1, "share of right answers on the test split", "proportion", RATE_ITEMS
        ),
        Metric(
            "accuracy_drop_to_reference",
            "fraction",
            "lower",
            -1,
            1,
            "reference accuracy minus the artifact's",
            "paired",
            RATE_ITEMS,
        ),
        Metric(
            "accuracy_drop_to_teacher",
            "fraction",
            "lower",
            -1,
            1,
            "teacher accuracy minus the artifact's",
            "paired",
            RATE_ITEMS,
        ),
        Metric("latency_p50_ms", "ms", "lower", 0, inf, "median latency at the true token length, batch 1", "quantile"),
        Metric("latency_p90_ms", "ms", "lower", 0, inf, "90th percentile at the true token length", "quantile"),
        Metric("latency_p99_ms", "ms", "lower", 0, inf, "99th percentile at the true token length", "quantile"),
        Metric("latency_full_p50_ms", "ms", "lower", 0, inf, "median latency at the maximum length", "quantile"),
        Metric("load_time_ms", "ms", "lower", 0, inf, "time to open the artifact, fresh process"),
        Metric("peak_rss_bytes", "byte", "lower", 0, inf, "peak memory of a process that only runs the artifact"),
        Metric("size_bytes", "byte", "lower", 0, inf, "artifact on disk"),
        Metric("parameters", "count", "lower", 0, inf, "weights of the compressed checkpoint"),
        Metric("macs", "count", "lower", 0, inf, "multiply-accumulates at the maximum length"),
    )
}


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
