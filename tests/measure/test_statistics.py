"""Intervals against published and hand-computed values."""

import numpy as np
import pytest

from stages.measure.statistics import bootstrap_quantile, paired_difference, proportion_interval


def test_wilson_interval_matches_the_textbook():
    # Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3: 81 of 263.
    low, high = proportion_interval(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_a_perfect_rate_is_not_certain():
    low, high = proportion_interval(10, 10)
    assert high == 1.0
    assert round(low, 4) == 0.7225


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 5)])
def test_a_rate_of_nothing_is_refused(successes, n):
    with pytest.raises(ValueError, match="is not a proportion"):
        proportion_interval(successes, n)


def test_paired_difference_counts_only_disagreements():
    first = np.array([True] * 60 + [True] * 12 + [False] * 4 + [False] * 24)
    second = np.array([True] * 60 + [False] * 12 + [True] * 4 + [False] * 24)
    difference, (low, high) = paired_difference(first, second)
    assert difference == pytest.approx(0.08)
    # By hand: b = 12.5, c = 4.5, N = 102; (8 ± 1.96·sqrt(17 − 64/102)) / 102.
    assert (low, high) == (
        pytest.approx((8 - 1.959964 * (17 - 64 / 102) ** 0.5) / 102),
        pytest.approx(0.15617, abs=1e-4),
    )


def test_identical_models_differ_by_zero_with_an_interval_around_it():
    same = np.array([True, False] * 50)
    difference, (low, high) = paired_difference(same, same)
    assert difference == 0
    assert low < 0 < high


def test_unpaired_items_are_refused():
    with pytest.raises(ValueError, match="paired items expected"):
        paired_difference(np.array([True]), np.array([True, False]))


def test_bootstrap_interval_holds_the_quantile_and_repeats():
    samples = np.random.default_rng(1).exponential(size=400)
    value, (low, high) = bootstrap_quantile(samples, 0.5)
    assert low < value < high
    assert bootstrap_quantile(samples, 0.5) == (value, (low, high))


def test_a_quantile_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no samples"):
        bootstrap_quantile(np.array([]), 0.5)
