"""Intervals against published and hand-computed values."""

import numpy as np
import pytest

from stages.measure.statistics import (
    bootstrap_quantile,
    mean_interval,
    paired_difference,
    proportion_interval,
    rate_interval,
)


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


def texts(random, count, rate, correlation):
    """Items of texts of 1 to 39, which are hits at a rate of their text's own: hits and the text of each."""
    sizes, scale = random.integers(1, 40, count), 1 / correlation - 1
    case = np.repeat(np.arange(count), sizes)
    return random.random(len(case)) < random.beta(rate * scale, (1 - rate) * scale, count)[case], case


@pytest.mark.parametrize("count", [50, 200])
@pytest.mark.parametrize("correlation", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("rate", [0.5, 0.9, 0.98, 0.995])
def test_intervals_of_dependent_items_hold_the_rate_as_often_as_they_say(count, correlation, rate):
    random, covered, naive = np.random.default_rng(5), 0, 0
    for _ in range(400):
        hits, case = texts(random, count, rate, correlation)
        low, high = rate_interval(hits, case)
        covered += low <= rate <= high
        low, high = proportion_interval(int(hits.sum()), len(hits))
        naive += low <= rate <= high
    assert covered >= 400 * 0.9  # 0.95, and two standard errors of 400 simulations below 0.92
    assert naive < 400 * 0.85


@pytest.mark.parametrize("correlation", [0.1, 0.9])
@pytest.mark.parametrize("rate", [0.5, 0.98])
def test_intervals_of_paired_dependent_items_hold_their_difference(correlation, rate):
    random, covered = np.random.default_rng(6), 0
    for _ in range(400):
        first, case = texts(random, 100, rate, correlation)
        second = first & (random.random(100) < 0.9)[case]  # one text in ten is lost whole
        low, high = paired_difference(first, second, case)[1]
        covered += low <= 0.1 * rate <= high
    assert covered >= 400 * 0.91


def test_a_perfect_rate_tells_as_much_as_its_texts():
    hits, case = np.ones(600, bool), np.repeat(np.arange(60), 10)
    assert rate_interval(hits, case) == pytest.approx(proportion_interval(60, 60))
    assert rate_interval(~hits, case) == pytest.approx(proportion_interval(0, 60))
    found, expected = (paired_difference(both, both, of)[1] for both, of in ((hits, case), (hits[:60], case[::10])))
    assert found == pytest.approx(expected)


def test_texts_of_one_item_each_keep_the_intervals_of_independent_items():
    random = np.random.default_rng(7)
    first, second = random.random((2, 300)) < 0.8
    assert rate_interval(first, np.arange(300)) == proportion_interval(int(first.sum()), 300)
    assert paired_difference(first, second, np.arange(300)) == paired_difference(first, second)
    # The estimate itself says so too: one more item in one text hardly moves it.
    case = np.append(np.arange(299), 298)
    assert rate_interval(first, case) == pytest.approx(rate_interval(first, np.arange(300)), abs=2e-4)


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_a_mean_over_items_of_texts_is_as_sure_as_its_texts_make_it(correlation):
    random, hits, rounds = np.random.default_rng(2), 0, 400
    for _ in range(rounds):
        sizes = random.integers(5, 40, 60)
        case = np.repeat(np.arange(60), sizes)
        own = random.normal(size=60)[case] * correlation**0.5 + random.normal(size=case.size) * (1 - correlation) ** 0.5
        low, high = mean_interval(own + 3.0, case)
        hits += low <= 3.0 <= high
    assert 0.91 < hits / rounds < 0.98
