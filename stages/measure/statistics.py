"""Intervals, so that no rate stands without its sample size."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
Interval = tuple[float, float]


def proportion_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a proportion.

    Source: Wilson, JASA 22 (1927) 209; Agresti & Coull (1998) recommend it at any n.

    Raises:
        ValueError: n is not positive or successes lie outside 0..n: a rate of nothing is not a rate.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} is not a proportion")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def paired_difference(first: BoolArray, second: BoolArray, confidence: float = 0.95) -> tuple[float, Interval]:
    """Difference of two accuracies on the same items, first minus second, with its interval.

    Source: Agresti & Min, Statistics in Medicine 24 (2005) 729: Wald interval after adding half an item to
    each of the four cells, which keeps its coverage when the two hardly ever disagree.

    Args:
        first: [n] whether the first model is right.
        second: [n] whether the second model is right, same items.
        confidence: coverage of the interval.

    Raises:
        ValueError: the arrays are empty or differ in length.
    """
    if first.shape != second.shape or first.size == 0:
        raise ValueError(f"paired items expected, not {first.shape} against {second.shape}")
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    return (only_first - only_second) / first.size, difference_interval(only_first, only_second, first.size, confidence)


def difference_interval(only_first: int, only_second: int, n: int, confidence: float = 0.95) -> Interval:
    """Interval of a paired difference of accuracies (see `paired_difference`) from the items on which they differ.

    Args:
        only_first: items that the first model alone has right.
        only_second: items that the second model alone has right.
        n: all items.
        confidence: coverage of the interval.
    """
    b, c, total = only_first + 0.5, only_second + 0.5, n + 2
    centre = (b - c) / total
    half = NormalDist().inv_cdf((1 + confidence) / 2) * sqrt(b + c - (b - c) ** 2 / total) / total
    return centre - half, centre + half


def bootstrap_quantile(
    samples: NDArray[np.float64], quantile: float, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[float, Interval]:
    """A sample quantile with its percentile-bootstrap interval.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    Args:
        samples: [n] measurements.
        quantile: 0..1.
        confidence: coverage of the interval.
        resamples: bootstrap draws.
        seed: of the draws, so that the same samples give the same interval.

    Raises:
        ValueError: there are no samples.
    """
    if samples.size == 0:
        raise ValueError("a quantile of no samples")
    draws = np.random.default_rng(seed).choice(samples, size=(resamples, samples.size))
    spread = np.quantile(np.quantile(draws, quantile, axis=1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(np.quantile(samples, quantile)), (float(spread[0]), float(spread[1]))
