"""Judging one variant: every fault fails with its reason, and nothing unknown passes."""

import re

import pytest

from stages.gating import verdict
from stages.measure.registry import REGISTRY
from stages.measure.statistics import proportion_interval
from stages.schema.gate import Gate
from stages.tasks import classify
from tests.toys.measurements import AGREEMENT, ERROR, GOOD, HOST, benchmark, bound, parity, reasons


def measurement(n=2000, **changes):
    fields = {"status": "measured", "reason": "", "altered": [], "values": GOOD, "intervals": {}}
    fields |= changes
    return verdict.Measurement(counts=dict.fromkeys(fields["values"], n), **fields)


def judged(measured, floor=()):
    return verdict.judge(measured, [AGREEMENT, ERROR], 1000, floor)


def test_good_measurements_pass_without_reasons():
    assert judged(measurement()) == verdict.Verdict("pass", [])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"values": GOOD | {"top1_agreement": 0.5}}, r"top1_agreement value 0\.5 < 0\.97 fraction"),
        ({"values": GOOD | {"max_abs_error": 1.0}}, r"max_abs_error value 1 > 0\.1 logit"),
        ({"values": {"n": 2000, "max_abs_error": 0.0}}, "top1_agreement was not measured"),
        ({"n": 5}, "measured on 5 test texts, at least 125 are needed"),
        ({"status": "failed", "reason": "cannot load"}, "cannot load"),
        ({"altered": ["'model.onnx' has sha256 0"]}, "differs from its manifest"),
        ({"same_host": False}, "taken on another host"),
    ],
)
def test_each_fault_fails_with_its_reason(changes, reason):
    found = judged(measurement(**changes))
    assert found.verdict == "fail"
    assert any(re.search(reason, line) for line in found.reasons)


def test_what_is_needed_are_texts_where_a_text_has_several_items():
    """2,000 tokens of 12 texts are 12 opinions: too few, and below `interval_below_n` for a rate."""
    few = {name: part | {"texts": dict.fromkeys(part["values"], 12)} for name, part in parity().items()
           if name in ("probe", "test", "coverage")}  # fmt: skip
    measured = verdict.flatten(parity(**few), benchmark(), HOST, classify)
    assert (measured.counts["top1_agreement"], measured.counts["max_abs_error"]) == (2000, 4000)
    assert (measured.texts["top1_agreement"], measured.texts["max_abs_error"]) == (12, 24)
    assert measured.values["n"] == 12
    asked = [bound(bad.metric, bad.unit, 64, at_least=bad.at_least, at_most=bad.at_most) for bad in (AGREEMENT, ERROR)]
    found = verdict.judge(measured, asked, 1000, [])
    assert found.reasons == [
        "top1_agreement was measured on 12 test texts, at least 125 are needed",
        "max_abs_error was measured on 24 probe and test texts, at least 64 are needed",
    ]


LOST = bound("weight_cosine_min", "cosine", at_least=0.9)


def with_weights(cosine, status="measured"):
    weights = parity()["weights"]
    weights["values"] = weights["values"] | {"weight_cosine_min": cosine}
    weights["worst"] = {"a.weight": cosine, "b.weight": 0.99}
    measured = verdict.flatten(parity(status=status, reason="macOS only", weights=weights), benchmark(), HOST, classify)
    return verdict.judge(measured, [LOST, AGREEMENT], 1000, [])


def test_a_lost_weight_fails_by_name_though_the_answers_agree():
    assert with_weights(0.95) == verdict.Verdict("pass", [])
    assert with_weights(0.0) == verdict.Verdict("fail", ["weight_cosine_min value 0 < 0.9 cosine (a.weight)"])


@pytest.mark.parametrize(
    ("part", "metric", "reason"),
    [
        (
            {"structure": {"differences": ["'gelu_3' is RELU, expected GELU"], "beyond": []}},
            "structure_difference_count",
            "structure_difference_count value 1 > 0 count ('gelu_3' is RELU, expected GELU)",
        ),
        (
            {"structure": {"differences": [], "beyond": ["1 of 64 elements of 'a.bias', worst at [3]"]}},
            "weights_beyond_count",
            "weights_beyond_count value 1 > 0 count (1 of 64 elements of 'a.bias', worst at [3])",
        ),
        (
            {"form": {"forms": {"padded": 0.1, "disturbed": 0.9}}},
            "form_relative_error",
            "form_relative_error value 1 > 0 ratio (disturbed)",
        ),
    ],
)
def test_the_reason_names_the_operator_weight_or_form(part, metric, reason):
    (body,) = part.values()
    body |= {"values": {metric: 1}, "counts": {metric: 2000}}
    threshold = bound(metric, REGISTRY[metric].unit, at_most=0)
    assert reasons(parity(**part), thresholds=[threshold]) == [reason]


def test_a_lost_weight_fails_where_nothing_can_run():
    assert with_weights(0.95, "not_measured") == verdict.Verdict("not_measured", ["macOS only"])
    lost = ["weight_cosine_min value 0 < 0.9 cosine (a.weight)", "macOS only"]
    assert with_weights(0.0, "not_measured") == verdict.Verdict("fail", lost)


def test_weights_that_were_not_compared_fail():
    assert verdict.judge(measurement(), [LOST], 1000, []).reasons == ["weight_cosine_min was not measured"]


def test_few_items_are_judged_at_the_unfavourable_end():
    few = measurement(n=200, intervals={"top1_agreement": [0.96, 0.999]})
    assert judged(few).reasons == ["top1_agreement 95 % bound (n = 200) 0.96 < 0.97 fraction"]
    many = measurement(n=2000, intervals={"top1_agreement": [0.96, 0.999]})
    assert judged(many).verdict == "pass"


def test_not_measured_is_never_a_pass_and_never_hides_a_fault():
    unmeasured = measurement(status="not_measured", reason="Core ML runs on macOS only", values={})
    assert judged(unmeasured) == verdict.Verdict("not_measured", ["Core ML runs on macOS only"])
    assert judged(unmeasured, ["reference 'none': accuracy value 0.1 < 0.5 fraction"]).verdict == "fail"
    altered = measurement(status="not_measured", reason="macOS only", values={}, altered=["'w' is missing"])
    assert judged(altered).verdict == "fail"


def test_a_broken_reference_fails_everything_built_from_it():
    floor = bound("accuracy", "fraction", at_least=0.5)
    bounds = {"reference": [floor], "every": [ERROR], "precisions": {"fp32": [AGREEMENT]}}
    settings = Gate(interval_below_n=1000, baseline=None, targets={}, **bounds)
    summary = {"accuracy": 0.1, "accuracy_interval": [0.08, 0.12], "n": 2000, "counts": {"test": 2000}}
    broken = verdict.judge_reference(settings, "none", summary, classify.PRIMARY.metric)
    assert broken == ["reference 'none': accuracy value 0.1 < 0.5 fraction"]
    assert judged(measurement(), broken).verdict == "fail"
    summary |= {"accuracy": 1.7}
    broken = verdict.judge_reference(settings, "none", summary, classify.PRIMARY.metric)
    assert broken[0] == "reference 'none': accuracy is 1.7; its range is 0 to 1"


def test_extremes_come_from_the_worse_split():
    worse = {"values": GOOD | {"max_abs_error": 9.0, "n": 64}, "intervals": {}}
    flat = verdict.flatten(parity(probe=worse), benchmark(), HOST, classify)
    assert flat.values["max_abs_error"] == 9.0
    assert flat.values["n"] == 2000
    assert flat.values["size_bytes"] == 10
    assert (flat.counts["max_abs_error"], flat.counts["top1_agreement"]) == (2064, 2000)


@pytest.mark.parametrize("part", ["probe", "test", "coverage"])
def test_nan_in_one_split_alone_fails(part):
    bad = {"values": {"non_finite_count": 3, "n": 64}, "intervals": {}}
    finite = bound("non_finite_count", "count", at_most=0)
    assert reasons(parity(**{part: bad}), thresholds=[finite]) == ["non_finite_count value 3 > 0 count"]


def test_nan_fails_even_where_no_threshold_asks():
    broken = measurement(values=GOOD | {"non_finite_count": 999})
    assert verdict.judge(broken, [ERROR], 1000, []).reasons == ["999 outputs are NaN or infinite"]


def test_an_artifact_that_breaks_while_it_is_timed_fails():
    found = judged(measurement(timing="cannot be timed: Segmentation fault", timing_failed=True))
    assert found.reasons == ["benchmark: cannot be timed: Segmentation fault"]
    assert found.verdict == "fail"


def test_a_score_without_its_number_of_weights_fails():
    sound = {"accuracy": 0.9, "accuracy_interval": [0.8, 1]}
    assert verdict.judge_score("student", sound, ("accuracy", "parameters")) == ["student: parameters was not measured"]


def test_each_metric_is_judged_by_the_items_it_was_measured_on_itself():
    """The fault: 16 utterances met a min_n of 64, because the test split had 1,800."""
    form = bound("form_relative_error", "ratio", min_n=64, at_most=1)
    said = "form_relative_error was measured on 16 probe texts in other forms, at least 64 are needed"
    assert reasons(thresholds=[form]) == [said]
    assert reasons(thresholds=[bound("form_relative_error", "ratio", min_n=16, at_most=1)]) == []


def test_accuracy_is_judged_by_the_texts_that_have_a_label():
    test = parity()["test"]
    few = {**test, "counts": test["counts"] | {"accuracy": 40}, "intervals": test["intervals"] | {"accuracy": [0.8, 1]}}
    asked = bound("accuracy", "fraction", min_n=10, at_least=0.95)
    said = (
        "accuracy 95 % bound (n = 40) 0.8 < 0.95 fraction; on 40 labelled test texts not even perfect answers meet it"
    )
    assert reasons(parity(test=few), thresholds=[asked]) == [f"{said}, 73 are needed"]


def test_a_bound_that_no_answers_can_reach_says_how_many_texts_it_needs():
    """The fault: 600 of 600 right answers prove 99.4 %, 99.8 % is asked, and min_n says that 500 texts would do."""
    low, high = proportion_interval(600, 600)
    perfect = measurement(n=600, values=GOOD | {"top1_agreement": 1.0}, intervals={"top1_agreement": [low, high]})
    strict = bound("top1_agreement", "fraction", min_n=500, at_least=0.998)
    (reason,) = verdict.judge(perfect, [strict], 1000, []).reasons
    assert reason.endswith("; on 600 test texts not even perfect answers meet it, 1,000 are needed")
    enough = measurement(n=1000, values=GOOD | {"top1_agreement": 1.0}, intervals={"top1_agreement": [low, high]})
    assert verdict.judge(enough, [strict], 1000, []).reasons == []


def test_latency_is_judged_by_its_value_however_few_runs():
    quick = bound("latency_p50_ms", "ms", at_most=1.5)
    timed = benchmark()
    wide = {**timed, "counts": timed["counts"] | {"latency_p50_ms": 200}, "intervals": timed["intervals"]}
    wide["intervals"] = wide["intervals"] | {"latency_p50_ms": [0.5, 2.5]}
    assert reasons(timed=wide, thresholds=[quick]) == []
