"""Metrics against hand-computed values, and thresholds that could never fire."""

import numpy as np
import pytest

from stages.core import artifact
from stages.measure import items, metrics
from stages.measure.registry import REGISTRY

REFERENCE = np.float32([[2, 0, 0], [0, 3, 0], [0, 0, 1], [1, 0, 0]])


def compared(outputs, reference=REFERENCE, case=None, wanted=None):
    """What parity finds of these logits, a text for each item where nothing else is said."""
    case = np.arange(len(reference), dtype=np.int32) if case is None else np.int32(case)
    return metrics.compare(reference, [outputs], case, np.full(len(reference), -1) if wanted is None else wanted)


def parity(outputs, reference=REFERENCE):
    return metrics.measure_parity(compared(outputs, reference))


def accuracy(labels, outputs, others=REFERENCE):
    """Accuracy of logits, and the drop to the answers of others."""
    answer, other = (metrics.answers(logits, labels).answer for logits in (outputs, others))
    return metrics.measure_accuracy(np.arange(len(labels)), labels, answer, {"reference": other, "teacher": other})


def test_identical_outputs_have_no_error():
    values, intervals = parity(REFERENCE)
    assert values["max_abs_error"] == values["kl_divergence_max"] == values["mean_abs_error"] == 0
    assert values["top1_agreement"] == values["cosine_similarity_min"] == 1
    assert intervals["top1_agreement"][0] < 1


def test_one_changed_answer_is_counted_and_measured():
    outputs = REFERENCE.copy()
    outputs[3] = [0, 1, 0]
    values, _ = parity(outputs)
    assert values["top1_agreement"] == 0.75
    assert values["max_abs_error"] == 1
    assert values["relative_max_error"] == pytest.approx(1 / REFERENCE.std())
    assert values["mean_abs_error"] == pytest.approx(2 / 12)
    assert values["cosine_similarity_min"] == 0


def test_one_utterance_in_a_hundred_may_turn_and_two_may_not():
    reference = np.tile(np.float32([1, 0, 0]), (201, 1))
    once, thrice = reference.copy(), reference.copy()
    once[0] = thrice[:3] = [0, 1, 0]
    found = [parity(outputs, reference)[0] for outputs in (once, thrice)]
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
    values, intervals = parity(outputs)
    assert values == {"non_finite_count": 1, "n": 4}
    assert intervals == {}


def test_an_answer_that_is_no_number_is_a_wrong_one():
    outputs = REFERENCE.copy()
    outputs[0] = np.nan
    assert accuracy(np.array([0, 1, 2, 0]), outputs)[0]["accuracy"] == 0.75


@pytest.mark.parametrize("outputs", [REFERENCE[:2], REFERENCE[:0]])
def test_nothing_to_compare_is_an_error_rather_than_perfect(outputs):
    reference = REFERENCE if len(outputs) else outputs
    with pytest.raises(ValueError, match="must have one non-empty shape"):
        parity(outputs, reference)


def test_quality_is_paired_with_reference_and_teacher():
    labels = np.array([0, 1, 2, 1])
    outputs = REFERENCE.copy()
    outputs[2] = [9, 0, 0]
    values, intervals = accuracy(labels, outputs)
    assert values["accuracy"] == 0.5
    assert values["accuracy_drop_to_reference"] == values["accuracy_drop_to_teacher"] == 0.25
    assert set(intervals) == {"accuracy", "accuracy_drop_to_reference", "accuracy_drop_to_teacher"}


def test_items_without_a_label_count_nowhere():
    labels = np.array([0, -1, 2, -1])
    outputs = REFERENCE.copy()
    outputs[2] = [9, 0, 0]
    found, known = accuracy(labels, outputs), labels >= 0
    assert found == accuracy(labels[known], outputs[known], REFERENCE[known])
    assert found[0]["accuracy"] == found[0]["accuracy_drop_to_reference"] == 0.5
    with pytest.raises(ValueError, match="none of 4 items has a label"):
        accuracy(np.full(4, -1), outputs)


def test_a_record_keeps_of_every_item_what_readers_ask_for():
    outputs = REFERENCE.copy()
    outputs[1], outputs[3] = [0, np.nan, 0], [0, 1, 0]
    record = compared(outputs, wanted=np.array([0, 1, 2, -1])).record
    assert record.answer.tolist() == [0, -1, 2, 1]
    assert record.max_abs_error.tolist() == [0, np.inf, 0, 1]
    assert record.kl_divergence[:2].tolist() == [0, np.inf]
    assert record.nll[:2] == pytest.approx([np.log(np.exp(2) + 2) - 2, np.inf])
    assert np.isnan(record.nll[3])
    assert (record.finite.tolist(), record.known.tolist()) == ([True, False, True, True], [True] * 3 + [False])


def test_a_record_is_read_as_it_was_written(tmp_path):
    record = compared(REFERENCE, case=[0, 0, 1, 2]).record
    artifact.write_arrays(tmp_path / items.ITEMS, items.arrays({"test": record, "probe": record}))
    found = items.read(tmp_path)
    assert found.keys() == {"probe", "test"}
    for name, value in vars(record).items():
        np.testing.assert_array_equal(getattr(found["test"], name), value)


def test_answers_may_come_text_by_text_and_in_parts(monkeypatch):
    random = np.random.default_rng(0)
    reference, outputs = random.normal(size=(2, 30, 5)).astype(np.float32)
    case, wanted = np.arange(30) // 3, random.integers(0, 5, 30)
    whole = metrics.compare(reference, [outputs], case, wanted)
    monkeypatch.setattr(metrics, "CHUNK", 40)
    parted = metrics.compare(reference, np.split(outputs, 10), case, wanted)
    for name, value in vars(whole.record).items():
        np.testing.assert_array_equal(getattr(parted.record, name), value)
    assert parted.mean_abs_error == pytest.approx(whole.mean_abs_error)


def test_items_of_one_text_widen_the_interval_of_their_rate():
    outputs = np.tile(REFERENCE, (25, 1))
    reference = outputs.copy()
    outputs[:12] = outputs[:12, ::-1]
    found = [
        metrics.measure_parity(compared(outputs, reference, case=case))
        for case in (np.arange(100), np.arange(100) // 4)
    ]
    assert found[0][0] == found[1][0]
    (low, high), (lower, higher) = (intervals["top1_agreement"] for _, intervals in found)
    assert lower < low < high < higher


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


def test_a_perplexity_is_that_of_the_mean_and_its_ratios_are_paired():
    case, nll = np.repeat(np.arange(20), 5), np.random.default_rng(0).uniform(0.5, 3.0, 100)
    values, intervals = metrics.measure_perplexity(case, nll, {"reference": nll, "teacher": nll - 0.1})
    assert values["perplexity"] == pytest.approx(np.exp(nll.mean()))
    assert (values["perplexity_increase_to_reference"], intervals["perplexity_increase_to_reference"]) == (
        0.0,
        (0.0, 0.0),
    )
    assert values["perplexity_increase_to_teacher"] == pytest.approx(np.exp(0.1) - 1)
    assert intervals["perplexity"][0] < values["perplexity"] < intervals["perplexity"][1]


@pytest.mark.parametrize("nll", [[], [1.0, np.inf], [np.nan]])
def test_a_perplexity_of_nothing_or_of_no_numbers_is_refused(nll):
    with pytest.raises(ValueError, match=f"{len(nll)} finite NLLs expected"):
        metrics.measure_perplexity(np.arange(len(nll)), np.asarray(nll), {})
