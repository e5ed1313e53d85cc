"""Metrics against hand-computed values, and thresholds that could never fire."""

import numpy as np
import pytest

from stages.measure import metrics
from stages.measure.registry import REGISTRY

REFERENCE = np.float32([[2, 0, 0], [0, 3, 0], [0, 0, 1], [1, 0, 0]])


def test_identical_outputs_have_no_error():
    values, intervals = metrics.measure_parity(reference=REFERENCE, outputs=REFERENCE)
    assert values["max_abs_error"] == values["kl_divergence_max"] == values["mean_abs_error"] == 0
    assert values["top1_agreement"] == values["cosine_similarity_min"] == 1
    assert intervals["top1_agreement"][0] < 1


def test_one_changed_answer_is_counted_and_measured():
    outputs = REFERENCE.copy()
    outputs[3] = [0, 1, 0]
    values, _ = metrics.measure_parity(reference=REFERENCE, outputs=outputs)
    assert values["top1_agreement"] == 0.75
    assert values["max_abs_error"] == 1
    assert values["relative_max_error"] == pytest.approx(1 / REFERENCE.std())
    assert values["mean_abs_error"] == pytest.approx(2 / 12)
    assert values["cosine_similarity_min"] == 0


def test_one_utterance_in_a_hundred_may_turn_and_two_may_not():
    reference = np.tile(np.float32([1, 0, 0]), (201, 1))
    once, thrice = reference.copy(), reference.copy()
    once[0] = thrice[:3] = [0, 1, 0]
    found = [metrics.measure_parity(reference=reference, outputs=outputs)[0] for outputs in (once, thrice)]
    assert [values["cosine_similarity_min"] for values in found] == [0, 0]
    assert [values["cosine_similarity_p01"] for values in found] == [1, 0]


def test_kl_divergence_is_in_nats():
    reference, outputs = np.log([[0.75, 0.25]]), np.log([[0.5, 0.5]])
    expected = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    assert metrics.kl_divergence(reference=reference, outputs=outputs)[0] == pytest.approx(expected)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_non_finite_output_is_counted_and_nothing_else_is_claimed(poison):
    outputs = REFERENCE.copy()
    outputs[0, 0] = poison
    values, intervals = metrics.measure_parity(reference=REFERENCE, outputs=outputs)
    assert values == {"non_finite_count": 1, "n": 4}
    assert intervals == {}


def test_quality_of_nan_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        metrics.measure_quality(
            labels=np.array([0]),
            outputs=np.float32([[np.nan, 1]]),
            reference=REFERENCE[:1, :2],
            teacher=REFERENCE[:1, :2],
        )


@pytest.mark.parametrize("outputs", [REFERENCE[:2], REFERENCE[:0]])
def test_nothing_to_compare_is_an_error_rather_than_perfect(outputs):
    reference = REFERENCE if len(outputs) else outputs
    with pytest.raises(ValueError, match="one non-empty shape"):
        metrics.measure_parity(reference=reference, outputs=outputs)


def test_quality_is_paired_with_reference_and_teacher():
    labels = np.array([0, 1, 2, 1])
    outputs = REFERENCE.copy()
    outputs[2] = [9, 0, 0]
    values, intervals = metrics.measure_quality(labels=labels, outputs=outputs, reference=REFERENCE, teacher=REFERENCE)
    assert values["accuracy"] == 0.5
    assert values["accuracy_drop_to_reference"] == values["accuracy_drop_to_teacher"] == 0.25
    assert set(intervals) == {"accuracy", "accuracy_drop_to_reference", "accuracy_drop_to_teacher"}


def test_items_without_a_label_count_nowhere():
    labels = np.array([0, -1, 2, -1])
    outputs = REFERENCE.copy()
    outputs[2] = [9, 0, 0]
    parts = {"outputs": outputs, "reference": REFERENCE, "teacher": REFERENCE}
    found = metrics.measure_quality(labels=labels, **parts)
    known = {key: value[labels >= 0] for key, value in parts.items()}
    assert found == metrics.measure_quality(labels=labels[labels >= 0], **known)
    assert found[0]["accuracy"] == found[0]["accuracy_drop_to_reference"] == 0.5
    with pytest.raises(ValueError, match="none of 4 items has a label"):
        metrics.measure_quality(labels=np.full(4, -1), **parts)


def test_a_zero_row_agrees_with_a_zero_row_only():
    zero = np.zeros((1, 3), np.float32)
    assert metrics.cosine_similarity(zero, zero)[0] == 1
    assert metrics.cosine_similarity(zero, REFERENCE[:1])[0] == 0


def test_a_percent_threshold_on_a_fraction_is_refused():
    """The published fault: a 0-1 metric met a threshold of 10 percent and could never fire."""
    with pytest.raises(ValueError, match="is measured in 'fraction', its threshold in 'percent'"):
        REGISTRY["accuracy_drop_to_reference"].check_threshold("percent", at_least=None, at_most=10, min_n=500)
    with pytest.raises(ValueError, match="can never fire: its range is -1 to 1"):
        REGISTRY["accuracy_drop_to_reference"].check_threshold("fraction", at_least=None, at_most=10, min_n=500)


def test_a_rate_on_a_handful_of_items_is_refused():
    with pytest.raises(ValueError, match="'accuracy' says nothing on 9 items: min_n must be 10 or more"):
        REGISTRY["accuracy"].check_threshold("fraction", at_least=0.9, at_most=None, min_n=9)


def test_a_threshold_in_the_wrong_direction_is_refused():
    with pytest.raises(ValueError, match="'max_abs_error' is better lower: use at_most"):
        REGISTRY["max_abs_error"].check_threshold("logit", at_least=0.1, at_most=None, min_n=64)


def test_every_metric_is_registered_under_its_own_name_and_has_a_range():
    assert len(REGISTRY) >= 20
    for name, metric in REGISTRY.items():
        assert metric.name == name
        assert metric.low < metric.high
        for unit in ("ms", "bytes"):
            assert not name.endswith(f"_{unit}") or metric.unit == unit.removesuffix("s") or metric.unit == unit


@pytest.mark.parametrize("name", [name for name, metric in REGISTRY.items() if metric.unit in ("ms", "byte")])
def test_nothing_takes_no_time_and_no_bytes(name):
    assert REGISTRY[name].impossible(0)
    assert REGISTRY[name].impossible(1) == ""


@pytest.mark.parametrize("name", REGISTRY)
def test_what_a_metric_cannot_be_is_refused_and_the_ends_of_its_range_are_not(name):
    metric = REGISTRY[name]
    for value in (np.nan, np.inf, -np.inf, None, "1", True, metric.low - 1, metric.high + 1):
        assert metric.impossible(value).startswith(f"{name} is "), value
    assert metric.impossible(metric.low) == "" or metric.positive
    assert metric.impossible(min(metric.high, 7)) == ""


def test_every_metric_says_what_it_is_measured_on():
    for name, metric in REGISTRY.items():
        assert metric.sample.items
        assert metric.sample.when in ("always", "read", "executed", "timed", "asked"), name
