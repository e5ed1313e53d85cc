"""What an artifact scores is held to its teacher and to what is no transformer."""

from pathlib import Path

import pytest
import yaml

from stages.gating import beside
from stages.gating.verdict import Flat, Measurement, judge_threshold
from stages.measure.statistics import paired_difference, proportion_interval
from stages.schema.gate import Threshold
from stages.tasks.facts import facts

PRIMARY = facts("classify").PRIMARY
KEPT, OVER = "accuracy_kept_of_teacher", "accuracy_over_bar"
N = 4500


def measured(right=4050, lost=(0.04, [0.03, 0.05])):
    return Measurement(
        status="measured",
        reason="",
        altered=[],
        values={"accuracy": right / N, "accuracy_drop_to_teacher": lost[0]},
        intervals={"accuracy": list(proportion_interval(right, N)), "accuracy_drop_to_teacher": lost[1]},
        counts={"accuracy": N, "accuracy_drop_to_teacher": N},
    )


def bar(right):
    ends = proportion_interval(right, N)
    return beside.bar_of({"accuracy": right / N, "accuracy_interval": ends, "method": "words", "n": N}, PRIMARY)


TEACHER = {"accuracy": 0.94}


def test_the_share_kept_has_the_interval_of_the_paired_drop():
    found = measured()
    beside.add(found, PRIMARY, TEACHER, bar(4000))
    assert found.values[KEPT] == pytest.approx(0.9 / 0.94)
    assert found.intervals[KEPT] == pytest.approx([1 - 0.05 / 0.94, 1 - 0.03 / 0.94])
    assert found.counts[KEPT] == N


def test_what_students_are_chosen_by_stands_beside_a_variant_and_nowhere_where_the_teacher_went_through():
    name = "validation_kept_of_teacher"
    student = {name: 0.97, f"{name}_interval": [0.96, 0.98], f"{name}_n": 2872}
    found = measured()
    beside.add_student(found, PRIMARY, student)
    assert (found.values[name], found.intervals[name], found.counts[name]) == (0.97, [0.96, 0.98], 2872)
    again = measured()
    beside.add_student(again, PRIMARY, {"accuracy": 0.9})
    assert name not in again.values


@pytest.mark.parametrize("right", [3800, 4050, 4400])
def test_the_distance_to_the_bar_lies_within_an_interval_wider_than_that_of_the_same_texts(right):
    import numpy as np

    found = measured()
    beside.add(found, PRIMARY, TEACHER, bar(right))
    assert found.values[OVER] == pytest.approx((4050 - right) / N)
    low, high = found.intervals[OVER]
    assert low < found.values[OVER] < high
    _, (near, far) = paired_difference(np.arange(N) < 4050, np.arange(N) < right)
    assert low < near
    assert far < high


def test_newcombes_own_example():
    """Newcombe (1998), table II, example (a): 56 of 70 against 48 of 80, method 10: 0.0524 to 0.3339."""
    found = measured()
    found.values["accuracy"], found.intervals["accuracy"] = 56 / 70, list(proportion_interval(56, 70))
    other = {"accuracy": 48 / 80, "accuracy_interval": proportion_interval(48, 80), "method": "", "n": 80}
    beside.add(found, PRIMARY, TEACHER, beside.bar_of(other, PRIMARY))
    assert found.intervals[OVER] == pytest.approx([0.0524, 0.3339], abs=1e-4)


def test_what_was_not_run_is_held_to_nothing():
    found = Measurement("not_measured", "", [], {"size_bytes": 1}, {})
    beside.add(found, PRIMARY, TEACHER, bar(4000))
    assert found.values == {"size_bytes": 1}


def test_a_task_whose_bar_is_in_another_metric_has_neither():
    primary = facts("generate").PRIMARY
    found = Measurement("measured", "", [], {"perplexity": 9.0}, {"perplexity": [8.0, 10.0]})
    known = {"bits_per_byte": 2.0, "bits_per_byte_interval": [1.9, 2.1], "method": "bytes"}
    beside.add(found, primary, {"perplexity": 8.0}, beside.bar_of(known, primary))
    assert found.values == {"perplexity": 9.0}
    assert beside.beaten({"metrics": found.values}, primary) == []


def test_a_linear_model_that_is_better_is_named_with_its_figures():
    found = measured()
    for right, notes in ((4000, 0), (4050, 0), (4104, 1)):
        beside.add(found, PRIMARY, TEACHER, bar(right))
        entry = {"bar": bar(right), "intervals": found.intervals, "metrics": found.values}
        said = beside.beaten(entry, PRIMARY)
        assert len(said) == notes
    assert said[0].startswith("words is better on this test split: accuracy 91.20 %, 1.20 points more [")


@pytest.mark.parametrize(("right", "reason"), [(4000, ""), (4104, "accuracy_over_bar value -0.012 < 0 fraction")])
def test_the_gate_can_forbid_it(right, reason):
    found = measured()
    beside.add(found, PRIMARY, TEACHER, bar(right))
    threshold = Threshold(metric=OVER, unit="fraction", at_least=0.0, min_n=500)
    assert judge_threshold(threshold, Flat(found.values, found.intervals, found.counts), 1000) == reason


def test_the_gate_above_the_bar_is_the_default_one_and_two_bounds():
    conf = {
        name: yaml.safe_load(Path(f"conf/gate/{name}.yaml").read_text("utf-8")) for name in ("default", "above_bar")
    }
    every, more = conf["default"]["every"], conf["above_bar"]["every"]
    assert more[: len(every)] == every
    assert [bound["metric"] for bound in more[len(every) :]] == [OVER, KEPT]
