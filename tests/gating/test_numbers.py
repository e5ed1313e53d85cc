"""A number that is missing or cannot be fails, whatever conf/gate asks for."""

import re

import pytest

from stages.gating import verdict
from stages.measure.registry import REGISTRY
from stages.tasks import classify, generate
from tests.toys.measurements import AGREEMENT, ERROR, HOST, benchmark, bound, parity, reasons


def without(part, name):
    return {**part, "values": {key: value for key, value in part["values"].items() if key != name}}


def with_value(part, name, value):
    return {**part, "values": part["values"] | {name: value}}


def test_a_sound_measurement_has_every_metric_that_must_be_there_and_passes():
    assert reasons() == []


TIMED = [name for name, metric in REGISTRY.items() if metric.sample.when == "timed" and name not in generate.SPEEDS]
EXTENT = ["size_bytes", "parameters", "macs"]


@pytest.mark.parametrize("name", [*TIMED, *EXTENT])
def test_a_benchmark_that_lacks_a_number_fails_by_its_name(name):
    assert reasons(timed=without(benchmark(), name)) == [f"{name} was not measured"]


@pytest.mark.parametrize(
    ("name", "part"), [("accuracy", "test"), ("form_relative_error", "form"), ("weight_cosine_min", "weights")]
)
def test_a_number_that_parity_lacks_fails_by_its_name_whatever_conf_asks_for(name, part):
    assert reasons(parity(**{part: without(parity()[part], name)})) == [f"{name} was not measured"]


@pytest.mark.parametrize(
    ("measured", "metric", "unit", "reason"),
    [
        ({"relative_max_error": 4.98}, "coverage_relative_error", "ratio", "value 4.98 > 2 ratio"),
        ({"kl_divergence_mean": 2.6}, "coverage_kl_mean", "nat", "value 2.6 > 2 nat"),
    ],
)
def test_an_error_on_the_coverage_inputs_alone_fails(measured, metric, unit, reason):
    """The fault: a relative error of 4.98 was measured there and judged nowhere."""
    coverage = parity()["coverage"]
    coverage = {**coverage, "values": coverage["values"] | measured}
    assert reasons(parity(coverage=coverage)) == []
    assert reasons(parity(coverage=coverage), thresholds=[bound(metric, unit, at_most=2)]) == [f"{metric} {reason}"]


@pytest.mark.parametrize("name", ["coverage_relative_error", "coverage_kl_mean", "coverage_agreement"])
def test_a_coverage_split_that_was_not_compared_fails(name):
    bare = {"values": {"non_finite_count": 0, "n": 77}, "intervals": {}}
    assert f"{name} was not measured" in reasons(parity(coverage=bare))


def test_a_benchmark_without_any_value_fails_and_nothing_ends_in_a_traceback():
    found = reasons(timed={"status": "measured", "host": HOST})
    assert set(found) == {f"{name} was not measured" for name in (*TIMED, *EXTENT)}
    assert "benchmark: it has neither a latency nor a reason why there is none" in reasons(timed={"host": HOST})
    silent = {**benchmark(), "status": "not_measured", "reason": ""}
    assert any(reason.startswith("benchmark: ") for reason in reasons(timed=silent))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("latency_p50_ms", 0, "is 0; its range is 0 to inf, the lower end excluded"),
        ("latency_p99_ms", -1.5, r"is -1\.5; its range"),
        ("latency_full_p50_ms", float("nan"), "is nan, which is no finite number"),
        ("load_time_ms", float("inf"), "is inf, which is no finite number"),
        ("peak_rss_bytes", 0, "is 0; its range"),
        ("size_bytes", 0, "is 0; its range"),
        ("size_bytes", 10.5, r"is 10\.5; it is counted in whole numbers"),
        ("parameters", -10, "is -10; its range"),
        ("macs", "9e6", "is '9e6', which is no number"),
        ("macs", None, "is None, which is no number"),
        ("latency_p90_ms", True, "is True, which is no number"),
    ],
)
def test_a_benchmark_with_an_impossible_number_fails_and_the_number_is_not_shown(name, value, said):
    flat = verdict.flatten(parity(), with_value(benchmark(), name, value), HOST, classify)
    found = verdict.judge(flat, [AGREEMENT, ERROR], 1000, [])
    assert found.verdict == "fail"
    assert len(found.reasons) == 1
    assert re.match(f"{name} {said}", found.reasons[0])
    assert name not in flat.values


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("test", "accuracy", 1.7),
        ("test", "accuracy", -0.1),
        ("test", "top1_agreement", 1.0001),
        ("test", "accuracy_drop_to_teacher", -1.5),
        ("test", "kl_divergence_mean", -1e-9),
        ("test", "cosine_similarity_p01", 1.5),
        ("weights", "weight_cosine_min", 2),
        ("weights", "weights_beyond_count", 0.5),
        ("form", "form_relative_error", float("nan")),
    ],
)
def test_a_number_of_parity_outside_its_range_fails_whatever_conf_asks_for(part, name, value):
    (reason,) = reasons(parity(**{part: with_value(parity()[part], name, value)}), thresholds=[ERROR])
    assert reason.startswith(f"{name} is ")


def test_an_artifact_that_cannot_be_read_fails_for_that_and_not_for_what_it_therefore_lacks():
    broken = {"status": "failed", "reason": "cannot read", "altered": [], "runtime": None}
    assert reasons(broken) == ["cannot read"]


@pytest.mark.parametrize("value", [float("nan"), "0.1", None, -1.0])
@pytest.mark.parametrize("split", ["probe", "test"])
def test_what_is_no_number_in_either_split_is_not_hidden_by_the_other(split, value):
    (reason,) = reasons(parity(**{split: with_value(parity()[split], "max_abs_error", value)}), thresholds=[AGREEMENT])
    assert reason.startswith("max_abs_error is ")


@pytest.mark.parametrize("part", ["probe", "test", "coverage", "weights", "form", "conversion", "status"])
def test_a_part_that_parity_does_not_have_fails_and_ends_in_no_traceback(part):
    assert reasons({name: value for name, value in parity().items() if name != part})


def test_a_number_that_nobody_registered_fails():
    assert reasons(timed=with_value(benchmark(), "energy_mj", 3)) == ["energy_mj is no registered metric"]


@pytest.mark.parametrize("ends", [None, [0.9], [0.95, 0.9], [float("nan"), 1.0]])
def test_a_rate_without_a_sound_interval_fails_and_is_not_shown(ends):
    test = parity()["test"]
    intervals = {name: each for name, each in test["intervals"].items() if name != "accuracy"}
    test = {**test, "intervals": intervals | ({} if ends is None else {"accuracy": ends})}
    flat = verdict.flatten(parity(test=test), benchmark(), HOST, classify)
    (reason,) = verdict.judge(flat, [ERROR], 1000, []).reasons
    assert reason.startswith("accuracy has ")
    assert "accuracy" not in flat.values


def test_a_variant_that_nothing_ran_still_needs_what_needs_no_runtime():
    untimed = without({**benchmark(), "status": "not_measured", "reason": "macOS only"}, "size_bytes")
    found = parity(status="not_measured", reason="macOS only")
    assert reasons(found, untimed) == ["size_bytes was not measured", "macOS only"]
