"""What rounding costs a weight is foretold from the weight, whatever its shape."""

import numpy as np
import pytest

from stages.measure.rounding import palette_error, reach, uniform_error

RANDOM = np.random.default_rng(0)
PLAIN = RANDOM.normal(0, 0.1, (96, 64)).astype(np.float32)
TAILED = PLAIN.copy()
TAILED[3, 5] = 17.5  # 175 deviations, as in MiniLM
BOTH = pytest.mark.parametrize("value", [PLAIN, TAILED], ids=["plain", "tailed"])


def rounded(value, step):
    return np.rint(value / step) * step


def lost(value, made):
    return float(np.linalg.norm((value - made).astype(np.float64)))


@BOTH
@pytest.mark.parametrize("granularity", ["tensor", "channel", "block_32"])
@pytest.mark.parametrize("levels", [7, 127])
def test_rounding_on_its_own_range_costs_what_is_foretold(value, granularity, levels):
    longest = reach(value, granularity)
    made = rounded(value, longest / np.float32(levels))
    assert lost(value, made) == pytest.approx(uniform_error(value, longest, levels), rel=0.05)


def test_an_outlier_with_one_scale_costs_the_rest_and_no_other_scale():
    tensor, channel = (uniform_error(TAILED, reach(TAILED, kind), 127) for kind in ("tensor", "channel"))
    rest = np.linalg.norm(np.delete(TAILED.reshape(-1), 3 * 64 + 5))
    assert 0.25 * rest < tensor < 0.5 * rest
    assert channel < 0.15 * tensor


def test_weights_that_lie_on_the_grid_may_still_be_off_by_what_is_usual():
    step = np.float32(np.abs(PLAIN).max() / 7)
    on_grid = rounded(PLAIN, step).astype(np.float32)
    usual = np.count_nonzero(on_grid) ** 0.5 * float(step) / 12**0.5
    assert uniform_error(on_grid, reach(on_grid, "tensor"), 7) == pytest.approx(usual, rel=1e-3)


def test_nothing_is_lost_of_zeros():
    zeros = np.zeros((64, 32), np.float32)
    assert uniform_error(zeros, reach(zeros, "channel"), 127) == palette_error(zeros, 16) == 0


@BOTH
@pytest.mark.parametrize("entries", [4, 16, 64])
def test_a_palette_costs_what_the_best_of_all_tables_does(value, entries):
    from coremltools._deps.kmeans1d import cluster

    best = cluster(value.reshape(-1).astype(np.float64), entries)
    made = np.asarray(best.centroids)[best.clusters].reshape(value.shape)
    foretold = palette_error(value, entries)
    assert 0.97 * lost(value, made) < foretold < 1.1 * lost(value, made)


def test_what_is_dropped_counts_whole_and_what_was_zero_counts_nothing():
    order = np.sort(np.abs(PLAIN).reshape(-1))
    smallest = float(np.linalg.norm(order[: order.size // 2]))
    assert palette_error(PLAIN, 256, 0.5) == pytest.approx(smallest, rel=0.02)
    sparse = np.where(np.abs(PLAIN) > order[order.size * 6 // 10], PLAIN, 0)
    assert palette_error(sparse, 256, 0.5) < 0.03 * smallest
