"""Thresholds that nothing can meet on a given number of texts are known before anything is built."""

import pytest
import yaml

from stages.core.closure import ROOT
from stages.measure.registry import REGISTRY, VALIDATED, WALKED, WRITTEN
from stages.measure.statistics import proportion_interval
from stages.schema.gate import Gate, Threshold, needed_items, needed_texts, shortages

GATE = Gate.model_validate(yaml.safe_load((ROOT / "conf/gate/default.yaml").read_text(encoding="utf-8")))


def rate(at_least, min_n=10):
    return Threshold(metric="top1_agreement", unit="fraction", at_least=at_least, min_n=min_n)


def drop(at_most, min_n=10):
    return Threshold(metric="accuracy_drop_to_reference", unit="fraction", at_most=at_most, min_n=min_n)


@pytest.mark.parametrize("bound", [0.5, 0.9, 0.97, 0.995, 0.998])
def test_a_rate_needs_the_fewest_texts_on_which_a_perfect_one_passes(bound):
    n = needed_items(rate(bound), 10_000)
    assert proportion_interval(n, n)[0] >= bound
    assert n == 10 or proportion_interval(n - 1, n - 1)[0] < bound


@pytest.mark.parametrize(
    ("threshold", "small", "n"),
    [
        (rate(0.998), 10_000, 1917),
        (rate(0.998), 1000, 1000),  # from here on the value is judged
        (rate(1.0), 1000, 1000),
        (rate(0.998, min_n=1200), 1000, 1200),
        (rate(0.5, min_n=500), 1000, 500),
        (drop(0.002), 1000, 978),
        (drop(0.05), 1000, 38),
        (drop(0.05, min_n=500), 1000, 500),
        (drop(-0.01), 1000, 10),  # not a matter of how many: who loses nothing does not meet it either
    ],
)
def test_what_is_needed_follows_from_the_interval_the_bound_and_where_values_are_judged(threshold, small, n):
    assert needed_items(threshold, small) == n


def test_what_is_no_rate_needs_what_it_says():
    form = Threshold(metric="form_relative_error", unit="ratio", at_most=0.001, min_n=16)
    assert needed_items(form, 1000) == 16


@pytest.mark.parametrize("precision", GATE.precisions)
def test_conf_says_the_number_of_items_that_its_own_bounds_need(precision):
    """The fault: min_n said 500 where nothing below 1,000 could pass."""
    for threshold in [*GATE.reference, *GATE.bounds(precision)]:
        assert threshold.min_n == needed_items(threshold, GATE.interval_below_n), threshold


def test_what_every_precision_is_asked_stands_once_and_is_asked_of_each():
    lists = list(GATE.precisions.values())
    assert [bound for bound in lists[0] if all(bound in others for others in lists[1:])] == []
    assert "accuracy_drop_to_teacher" in {bound.metric for bound in GATE.every}
    assert all(GATE.bounds(name) == [*GATE.every, *own] for name, own in GATE.precisions.items())


@pytest.mark.parametrize("precision", GATE.precisions)
def test_every_precision_is_judged_on_the_inputs_that_utterances_leave_out(precision):
    """The fault: a relative error of 4.98 on the coverage inputs was measured, and passed."""
    bounds = {each.metric: each for each in GATE.precisions[precision]}
    assert not bounds["coverage_relative_error"].holds(4.98)
    assert not bounds["coverage_relative_error"].holds(float("nan"))
    assert bounds["coverage_relative_error"].min_n <= 48  # texts at the edge and every length of the default build


@pytest.mark.parametrize("precision", [name for name in GATE.precisions if name.startswith("static")])
def test_a_calibrated_precision_is_asked_for_what_calibration_alone_has(precision):
    asked = {each.metric for each in GATE.precisions[precision]}
    samples = {name: metric.sample for name, metric in REGISTRY.items()}
    # Text that a model writes is no matter of calibration: a classifier writes none.
    # What accelerators take is one of the target's, and what a student keeps on validation is its own.
    others = (WRITTEN, WALKED, VALIDATED)
    assert asked >= {name for name, sample in samples.items() if sample.when == "asked" and sample not in others}


def test_needs_are_the_largest_of_the_chosen_precisions_by_split():
    found = {need.splits: need.n for need in needed_texts(GATE, ["dynamic_wi8_afp32"])}
    assert found["test",] == 500
    assert ("calibration",) not in found
    found = {need.splits: need.n for need in needed_texts(GATE, ["dynamic_wi8_afp32", "fp32", "static_wi8_ai8"])}
    assert (found["test",], found["calibration",], found["probe",]) == (1000, 64, 16)


def test_a_split_that_is_too_small_is_named_with_what_would_do_and_others_are_not():
    (said,) = shortages(GATE, ["fp32"], {"test": 600, "probe": 64, "calibration": 10})
    assert said == "top1_agreement is measured on 600 test texts, and nothing can pass on fewer than 1,000"
    assert shortages(GATE, ["fp32"], {"test": 1000, "probe": 64}) == []
    assert shortages(GATE, ["fp32"], {}) == []
    assert shortages(GATE, ["static_wi8_ai8"], {"calibration": 10})[0].startswith(
        "calibration_agreement is measured on 10"
    )
