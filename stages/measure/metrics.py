"""How well outputs agree with the reference's, and how good the answers are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.splits import UNKNOWN
from stages.measure.items import NO_ANSWER, Answers, Record
from stages.measure.statistics import Interval, mean_interval, paired_difference, rate_interval
from stages.measure.top_logits import Logits, best, columns

FloatArray = NDArray[np.float32] | NDArray[np.float64]
Values = dict[str, float]
CHUNK = 1 << 22
"""Logits compared at once: 32 MB in float64, of which a comparison holds a few."""


def softmax(logits: FloatArray) -> NDArray[np.float64]:
    """Probabilities over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exponent = np.exp(shifted)
    return np.asarray(exponent / exponent.sum(axis=-1, keepdims=True))


def log_softmax(logits: FloatArray) -> NDArray[np.float64]:
    """Logarithms of the probabilities over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def kl_divergence(*, reference: FloatArray, outputs: FloatArray) -> NDArray[np.float64]:
    """KL(softmax(reference) ‖ softmax(outputs)) of each row, in nats; [n, classes] → [n]."""
    expected, actual = log_softmax(reference), log_softmax(outputs)
    # Rounding can leave the KL divergence of equal rows a hair below zero.
    return np.asarray(np.maximum((np.exp(expected) * (expected - actual)).sum(axis=-1), 0.0))


def non_finite_count(outputs: FloatArray) -> int:
    """Number of NaN and infinite values."""
    return int((~np.isfinite(outputs)).sum())


def kept_answers(logits: Logits, wanted: NDArray[np.int64]) -> Answers:
    """Return what `answers` does, of logits as they are kept; those of a right class that was not are infinite."""
    if logits.classes is None:
        return answers(logits.values, wanted)
    same = logits.classes[:, :-1] == wanted[:, None]
    at = np.where(same.any(axis=1), same.argmax(axis=1), UNKNOWN)
    found = answers(logits.values, at)
    return Answers(
        np.where(found.answer == NO_ANSWER, NO_ANSWER, best(*logits)).astype(np.int32),
        np.where((wanted != UNKNOWN) & (at == UNKNOWN), np.inf, found.nll),
    )


def answers(logits: FloatArray, wanted: NDArray[np.int64]) -> Answers:
    """Keep of logits what quality is measured from.

    Args:
        logits: [items, classes]
        wanted: [items] right classes, -1 where unknown.
    """
    finite, known = np.isfinite(logits).all(axis=-1), wanted != UNKNOWN
    nll = np.where(known, np.inf, np.nan)
    there = np.flatnonzero(finite & known)
    nll[there] = -log_softmax(logits[there])[np.arange(len(there)), wanted[there]]
    return Answers(np.where(finite, logits.argmax(axis=-1), NO_ANSWER).astype(np.int32), nll)


@dataclass(frozen=True)
class Comparison:
    """An artifact's answers beside the reference's.

    Attributes:
        record: what is kept of them.
        expected: [items] the reference's answer.
        cosine: [items] of the two rows of logits, NaN where one of the artifact's is not finite.
        non_finite: logits that are not finite.
        mean_abs_error: over all logits, NaN likewise.
        spread: standard deviation of the reference's logits.
    """

    record: Record
    expected: NDArray[np.int64]
    cosine: NDArray[np.float64]
    non_finite: int
    mean_abs_error: float
    spread: float


def compare(
    reference: FloatArray,
    answered: Iterable[FloatArray],
    case: NDArray[np.int32],
    wanted: NDArray[np.int64],
    classes: NDArray[np.int32] | None = None,
) -> Comparison:
    """Compare logits with the reference's item by item, and keep none of them.

    Args:
        reference: [items, columns] of the compressed checkpoint in torch.
        answered: the artifact's, text by text: [items of the text, classes] each.
        case: [items] the text that each belongs to.
        wanted: [items] right classes, -1 where unknown.
        classes: of the columns, as in `top_logits.Logits`.

    Raises:
        ValueError: shapes differ, or there is nothing to compare.
    """
    found: dict[str, list[NDArray[Any]]] = {}
    start, bad, total = 0, 0, 0.0
    for outputs in _chunks(answered):
        rows = slice(start, start := start + len(outputs))
        kept = columns(outputs, None if classes is None else classes[rows])
        if kept.shape != reference[rows].shape:
            raise ValueError(f"reference {reference.shape} and outputs {outputs.shape} differ")
        error, parts = _rows(reference[rows], kept, answers(outputs, wanted[rows]))
        bad, total = bad + non_finite_count(outputs), total + float(error.sum())
        for name, values in parts.items():
            found.setdefault(name, []).append(values)
    if start != len(reference) or reference.size == 0:
        raise ValueError(f"reference {reference.shape} and {start} items answered must have one non-empty shape")
    whole = {name: np.concatenate(parts) for name, parts in found.items()}
    cosine = whole.pop("cosine")
    return Comparison(
        Record(case=case, wanted=wanted, **whole),
        best(reference, classes),
        cosine,
        bad,
        total / reference.size if not bad else float("nan"),
        max(float(reference.std()), float(np.finfo(np.float32).tiny)),
    )


def _rows(
    reference: FloatArray, outputs: FloatArray, kept: Answers
) -> tuple[NDArray[np.float64], dict[str, NDArray[Any]]]:
    """Return the absolute errors of the rows that are finite, and what each row is known by."""
    finite = kept.answer != NO_ANSWER
    expected, actual = reference[finite], outputs[finite]
    error = np.abs(expected.astype(np.float64) - actual)
    parts = {
        "cosine": (np.nan, cosine_similarity(expected, actual)),
        "kl_divergence": (np.inf, kl_divergence(reference=expected, outputs=actual)),
        "max_abs_error": (np.inf, error.max(axis=-1)),
    }
    found: dict[str, NDArray[Any]] = {"answer": kept.answer, "nll": kept.nll}
    for name, (missing, values) in parts.items():
        found[name] = np.full(len(outputs), missing)
        found[name][finite] = values
    return error, found


def _chunks(parts: Iterable[FloatArray]) -> Iterator[NDArray[Any]]:
    """Put the answers to texts together until they are worth a computation."""
    waiting: list[FloatArray] = []
    size = 0
    for part in parts:
        waiting.append(part)
        size += part.size
        if size >= CHUNK:
            yield np.concatenate(waiting)
            waiting, size = [], 0
    if waiting:
        yield np.concatenate(waiting)


def measure_parity(compared: Comparison) -> tuple[Values, dict[str, Interval]]:
    """Numeric agreement of an artifact with the reference on the same inputs.

    Returns:
        Metric values, and 95 % intervals for those that are rates; `n` says items. Where any output is not finite only
        `non_finite_count` and `n` are given: an error of NaN is not a number.
    """
    record, n = compared.record, len(compared.expected)
    if compared.non_finite:
        return {"non_finite_count": compared.non_finite, "n": n}, {}
    worst, same = float(record.max_abs_error.max()), compared.expected == record.answer
    values = {
        "max_abs_error": worst,
        "relative_max_error": worst / compared.spread,
        "mean_abs_error": compared.mean_abs_error,
        "cosine_similarity_min": float(compared.cosine.min()),
        "cosine_similarity_p01": float(np.quantile(compared.cosine, 0.01)),
        "kl_divergence_mean": float(record.kl_divergence.mean()),
        "kl_divergence_max": float(record.kl_divergence.max()),
        "top1_agreement": float(same.mean()),
        "non_finite_count": 0,
        "n": n,
    }
    return values, {"top1_agreement": rate_interval(same, record.case)}


def cosine_similarity(reference: FloatArray, outputs: FloatArray) -> NDArray[np.float64]:
    """Cosine of each row, [n, classes] → [n]; a zero row has cosine 0 with everything but another zero row."""
    first, second = reference.astype(np.float64), outputs.astype(np.float64)
    norms = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    dot = (first * second).sum(axis=-1)
    both_zero = (np.linalg.norm(first, axis=-1) + np.linalg.norm(second, axis=-1)) == 0
    cosine = np.divide(dot, norms, out=np.zeros_like(dot), where=norms > 0)
    return np.where(both_zero, 1.0, cosine).clip(-1, 1)


def measure_accuracy(
    case: NDArray[np.int32],
    wanted: NDArray[np.int64],
    answer: NDArray[np.int32],
    others: Mapping[str, NDArray[np.int32]],
) -> tuple[Values, dict[str, Interval]]:
    """How many answers are right, and how many more of other models on the same items.

    Args:
        case: [items] the text that each belongs to.
        wanted: [items] right answers; -1 where unknown, and then the item counts nowhere.
        answer: [items] the artifact's; one that is no number is a wrong one.
        others: [items] answers by the name of who gave them.

    Returns:
        Values and 95 % intervals of `accuracy`, and of `accuracy_drop_to_NAME` for each of the others.

    Raises:
        ValueError: no item has a label.
    """
    known = wanted != UNKNOWN
    if not known.any():
        raise ValueError(f"none of {len(wanted)} items has a label; accuracy would be of nothing")
    right = (answer == wanted)[known]
    values: Values = {"accuracy": float(right.mean())}
    intervals: dict[str, Interval] = {"accuracy": rate_interval(right, case[known])}
    for name, other in others.items():
        key = f"accuracy_drop_to_{name}"
        values[key], intervals[key] = paired_difference((other == wanted)[known], right, case[known])
    return values, intervals


def measure_perplexity(
    case: NDArray[np.int32], nll: NDArray[np.float64], others: Mapping[str, NDArray[np.float64]]
) -> tuple[Values, dict[str, Interval]]:
    """How many tokens a language model finds as likely as the one that follows: exp of the mean NLL.

    Args:
        case: [items] the text that each belongs to.
        nll: [items] minus the logarithm of what the token that follows is given as its probability, in nats.
        others: [items] the same of other models, by the name of whose it is.

    Returns:
        Values and 95 % intervals of `perplexity`, and of `perplexity_increase_to_NAME` for each of the others: the
        share by which the artifact's is higher.

    Raises:
        ValueError: there is no item, or an output was not finite.
    """
    if not len(nll) or not np.isfinite(nll).all():
        raise ValueError(f"{len(nll)} finite NLLs expected; a perplexity would be of nothing, or infinite")
    values: Values = {}
    intervals: dict[str, Interval] = {}
    for name, one in {"perplexity": nll, **{name: nll - other for name, other in others.items()}}.items():
        low, high = (float(np.exp(end)) for end in mean_interval(one, case))
        value = float(np.exp(one.mean()))
        if name == "perplexity":
            values[name], intervals[name] = value, (low, high)
        else:
            key = f"perplexity_increase_to_{name}"
            values[key], intervals[key] = value - 1, (low - 1, high - 1)
    return values, intervals
