"""The gate passes what is known to be good and nothing else."""

import json
import re

import pytest

from stages import gate
from stages.core import artifact, params
from stages.core.errors import ArtifactError
from stages.judging import verdict
from stages.measure.registry import REGISTRY
from stages.measure.statistics import proportion_interval
from stages.schema.gate import Gate, Threshold


def bound(metric, unit, min_n=10, **limits):
    return params.parse(Threshold, {"metric": metric, "unit": unit, "min_n": min_n, **limits}, "gate")


AGREEMENT = bound("top1_agreement", "fraction", at_least=0.97)
ERROR = bound("max_abs_error", "logit", at_most=0.1)
HOST = {"cpu_isa": "avx2", "machine": "x86_64"}
LOCK = "onnxruntime==1.32.0\n"
PARTS = ("conversion", "coverage", "form")
GOOD = {"top1_agreement": 0.99, "max_abs_error": 0.05, "non_finite_count": 0, "n": 2000}


def measurement(n=2000, **changes):
    fields = {"status": "measured", "reason": "", "altered": [], "values": GOOD, "intervals": {}}
    fields |= changes
    return verdict.Measurement(counts=dict.fromkeys(fields["values"], n), **fields)


def sample(when):
    """Every metric of the registry that must be there, at its best, with an interval where it has one."""
    found = {name: metric for name, metric in REGISTRY.items() if metric.sample.when == when}
    values = {name: 1 if metric.positive or metric.better == "higher" else 0 for name, metric in found.items()}
    intervals = {name: [values[name], values[name]] for name, metric in found.items() if metric.interval}
    return {"values": values, "intervals": intervals, "counts": dict.fromkeys(values, 2000)}


def parity(**changes):
    """What parity says of a sound artifact, part by part."""
    test = sample("executed")
    for name in [name for name in test["values"] if name.split("_")[0] in PARTS]:
        del test["values"][name], test["counts"][name]
    test["values"] |= GOOD
    split = {"values": {k: v for k, v in test["values"].items() if not k.startswith("accuracy")}, "intervals": {}}
    return {
        "status": "measured",
        "reason": "",
        "altered": [],
        "runtime": "onnxruntime-cpu",
        "runtime_versions": {"onnxruntime": "1.32.0"},
        "audit": sample("read"),
        "conversion": {"values": {"conversion_relative_max_error": 0}, "counts": {"conversion_relative_max_error": 64}},
        "form": {"values": {"form_relative_error": 0}, "counts": {"form_relative_error": 16}},
        "probe": split,
        "test": test,
        "coverage": split,
    } | changes


def benchmark(**changes):
    timed, extent = sample("timed"), {"size_bytes": 10, "parameters": 10, "macs": 10}
    return {
        "status": "measured",
        "values": timed["values"] | extent,
        "intervals": timed["intervals"],
        "counts": timed["counts"] | dict.fromkeys(extent, 1),
        "host": HOST,
        "runtime_versions": {"onnxruntime": "1.32.0"},
    } | changes


def reasons(found_by_parity=None, timed=None, thresholds=(AGREEMENT, ERROR)):
    flat = verdict.flatten(found_by_parity or parity(), timed or benchmark(), HOST)
    return verdict.judge(flat, thresholds, 1000, []).reasons


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


LOST = bound("weight_cosine_min", "cosine", at_least=0.9)


def audited(cosine, status="measured"):
    audit = parity()["audit"]
    audit["values"] = audit["values"] | {"weight_cosine_min": cosine}
    audit["weights"] = {"a.weight": cosine, "b.weight": 0.99}
    measured = verdict.flatten(parity(status=status, reason="macOS only", audit=audit), benchmark(), HOST)
    return verdict.judge(measured, [LOST, AGREEMENT], 1000, [])


def test_a_lost_weight_fails_by_name_though_the_answers_agree():
    assert audited(0.95) == verdict.Verdict("pass", [])
    assert audited(0.0) == verdict.Verdict("fail", ["weight_cosine_min value 0 < 0.9 cosine (a.weight)"])


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
    assert audited(0.95, "not_measured") == verdict.Verdict("not_measured", ["macOS only"])
    lost = ["weight_cosine_min value 0 < 0.9 cosine (a.weight)", "macOS only"]
    assert audited(0.0, "not_measured") == verdict.Verdict("fail", lost)


def test_weights_that_were_not_audited_fail():
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
    settings = Gate(interval_below_n=1000, baseline=None, **bounds)
    summary = {"accuracy": 0.1, "accuracy_interval": [0.08, 0.12], "n": 2000, "counts": {"test": 2000}}
    broken = verdict.judge_reference(settings, "none", summary)
    assert broken == ["reference 'none': accuracy value 0.1 < 0.5 fraction"]
    assert judged(measurement(), broken).verdict == "fail"
    summary |= {"accuracy": 1.7}
    broken = verdict.judge_reference(settings, "none", summary)
    assert broken[0] == "reference 'none': accuracy is 1.7; its range is 0 to 1"


def test_extremes_come_from_the_worse_split():
    worse = {"values": GOOD | {"max_abs_error": 9.0, "n": 64}, "intervals": {}}
    flat = verdict.flatten(parity(probe=worse), benchmark(), HOST)
    assert flat.values["max_abs_error"] == 9.0
    assert flat.values["n"] == 2000
    assert flat.values["size_bytes"] == 10
    assert (flat.counts["max_abs_error"], flat.counts["top1_agreement"]) == (2064, 2000)


@pytest.mark.parametrize("part", ["probe", "test", "coverage"])
def test_nan_in_one_split_alone_fails(part):
    bad = {"values": {"non_finite_count": 3, "n": 64}, "intervals": {}}
    finite = bound("non_finite_count", "count", at_most=0)
    assert reasons(parity(**{part: bad}), thresholds=[finite]) == ["non_finite_count value 3 > 0 count"]


def write(path, files, parents=None):
    with artifact.writing(path, stage="test", parents=parents or {}) as temporary:
        for name, value in files.items():
            artifact.write_json(temporary / name, value)


def a_build(path, keys):
    """A build of sound variants, as far as the gate reads it."""
    artifact.write_json(path / "host.json", HOST)
    (path / "constraints.txt").write_text(LOCK, encoding="utf-8")
    summary = {"accuracy": 0.9, "accuracy_interval": [0.8, 1], "n": 2000, "counts": {"test": 2000}}
    write(path / "reference/none", {"summary.json": summary})
    baseline = {"accuracy": 0.7, "accuracy_interval": [0.6, 0.8], "n": 2000}
    write(path / "data", {"summary.json": {"baseline": baseline}})
    for role in ("teacher", "student"):
        score = {"accuracy": 0.9, "accuracy_interval": [0.8, 1], "parameters": 10, "n": 2000}
        write(path / role, {"evaluation.json": score})
    for key in keys:
        write(path / "artifact" / key, {"model.json": key})
        parents = {"artifact": path / "artifact" / key}
        write(path / "parity" / key, {"metrics.json": parity()}, parents)
        write(path / "benchmark" / key, {"metrics.json": benchmark()}, parents)


def settings_of(key):
    variant = {"compression": "none", "target": "onnx-cpu", "precision": "fp32", "required": True}
    return params.parse(
        gate.Params,
        {
            "gate": {
                "baseline": None,
                "interval_below_n": 1000,
                "reference": [{"metric": "accuracy", "unit": "fraction", "at_least": 0.5, "min_n": 10}],
                "every": [{"metric": "non_finite_count", "unit": "count", "at_most": 0, "min_n": 10}],
                "precisions": {"fp32": [{"metric": "max_abs_error", "unit": "logit", "at_most": 0.1, "min_n": 10}]},
            },
            "precisions": {"fp32": {"kind": "float", "bits": 32}},
            "variants": {key: variant | {"release_not_measured": False}},
        },
        "",
    )


def judged_build(path, key):
    gate.run(settings_of(key), path, path / "constraints.txt", path / "verdicts.json", path / "metrics.json")
    return json.loads((path / "verdicts.json").read_text(encoding="utf-8"))["variants"]


def test_leftovers_of_removed_variants_are_not_judged_and_the_contract_holds(tmp_path):
    a_build(tmp_path, ("kept", "leftover"))
    entries = judged_build(tmp_path, "kept")
    assert list(entries) == ["kept"]
    entry = entries["kept"]
    assert (entry["target"], entry["compression"], entry["precision"]) == ("onnx-cpu", "none", "fp32")
    assert (entry["verdict"], entry["reasons"]) == ("pass", [])
    assert entry["thresholds"] == settings_of("kept").gate.applied("fp32")
    assert [bound["metric"] for bound in entry["thresholds"]["variant"]] == ["non_finite_count", "max_abs_error"]
    assert entry["thresholds"]["interval_below_n"] == 1000
    assert {"size_bytes", "latency_p50_ms", "accuracy", "top1_agreement", "max_abs_error", "n"} <= set(entry["metrics"])
    assert set(entry["metrics"]) - {"n"} <= set(entry["counts"])
    assert (entry["runtime"], entry["runtime_versions"]) == ("onnxruntime-cpu", {"onnxruntime": "1.32.0"})
    with artifact.writing(tmp_path / "artifact/kept", stage="test", parents={}) as other:
        artifact.write_json(other / "model.json", "another")
    entry = judged_build(tmp_path, "kept")["kept"]
    assert entry["verdict"] == "fail"
    assert any("its parity was measured on another artifact" in reason for reason in entry["reasons"])
    (tmp_path / "parity/kept/metrics.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ArtifactError, match="is not what its stage wrote"):
        judged_build(tmp_path, "kept")


def test_nan_fails_even_where_no_threshold_asks():
    broken = measurement(values=GOOD | {"non_finite_count": 999})
    assert verdict.judge(broken, [ERROR], 1000, []).reasons == ["999 outputs are NaN or infinite"]


def test_an_artifact_that_breaks_while_it_is_timed_fails():
    found = judged(measurement(timing="cannot be timed: Segmentation fault", timing_failed=True))
    assert found.reasons == ["benchmark: cannot be timed: Segmentation fault"]
    assert found.verdict == "fail"


def without(part, name):
    return {**part, "values": {key: value for key, value in part["values"].items() if key != name}}


def with_value(part, name, value):
    return {**part, "values": part["values"] | {name: value}}


def test_a_sound_measurement_has_every_metric_that_must_be_there_and_passes():
    assert reasons() == []


TIMED = [name for name, metric in REGISTRY.items() if metric.sample.when == "timed"]
EXTENT = ["size_bytes", "parameters", "macs"]


@pytest.mark.parametrize("name", [*TIMED, *EXTENT])
def test_a_benchmark_that_lacks_a_number_fails_by_its_name(name):
    assert reasons(timed=without(benchmark(), name)) == [f"{name} was not measured"]


@pytest.mark.parametrize(
    ("name", "part"), [("accuracy", "test"), ("form_relative_error", "form"), ("weight_cosine_min", "audit")]
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
    flat = verdict.flatten(parity(), with_value(benchmark(), name, value), HOST)
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
        ("audit", "weight_cosine_min", 2),
        ("audit", "weights_beyond_count", 0.5),
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


@pytest.mark.parametrize("part", ["probe", "test", "coverage", "audit", "form", "conversion", "status"])
def test_a_part_that_parity_does_not_have_fails_and_ends_in_no_traceback(part):
    assert reasons({name: value for name, value in parity().items() if name != part})


def test_a_number_that_nobody_registered_fails():
    assert reasons(timed=with_value(benchmark(), "energy_mj", 3)) == ["energy_mj is no registered metric"]


@pytest.mark.parametrize("ends", [None, [0.9], [0.95, 0.9], [float("nan"), 1.0]])
def test_a_rate_without_a_sound_interval_fails_and_is_not_shown(ends):
    test = parity()["test"]
    intervals = {name: each for name, each in test["intervals"].items() if name != "accuracy"}
    test = {**test, "intervals": intervals | ({} if ends is None else {"accuracy": ends})}
    flat = verdict.flatten(parity(test=test), benchmark(), HOST)
    (reason,) = verdict.judge(flat, [ERROR], 1000, []).reasons
    assert reason.startswith("accuracy has ")
    assert "accuracy" not in flat.values


def test_a_variant_that_nothing_ran_still_needs_what_needs_no_runtime():
    untimed = without({**benchmark(), "status": "not_measured", "reason": "macOS only"}, "size_bytes")
    found = parity(status="not_measured", reason="macOS only")
    assert reasons(found, untimed) == ["size_bytes was not measured", "macOS only"]


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        ({"accuracy": 1.7}, "teacher: accuracy is 1.7; its range is 0 to 1"),
        ({"parameters": 0}, "teacher: parameters is 0; its range is 0 to inf, the lower end excluded"),
        ({"accuracy_interval": []}, "teacher: accuracy has no interval"),
    ],
)
def test_what_a_table_shows_of_the_teacher_is_checked_too(tmp_path, score, reason):
    a_build(tmp_path, ("kept",))
    sound = {"accuracy": 0.9, "accuracy_interval": [0.8, 1], "parameters": 10, "n": 2000}
    write(tmp_path / "teacher", {"evaluation.json": sound | score})
    assert judged_build(tmp_path, "kept")["kept"]["reasons"][0] == reason


def test_the_honesty_bar_of_every_report_is_checked_too(tmp_path):
    a_build(tmp_path, ("kept",))
    baseline = {"accuracy": float("-1"), "accuracy_interval": [0.6, 0.8]}
    write(tmp_path / "data", {"summary.json": {"baseline": baseline}})
    assert judged_build(tmp_path, "kept")["kept"]["reasons"][0] == "baseline: accuracy is -1; its range is 0 to 1"


def test_a_score_without_its_number_of_weights_fails():
    sound = {"accuracy": 0.9, "accuracy_interval": [0.8, 1]}
    assert verdict.judge_score("student", sound, gate.SCORED) == ["student: parameters was not measured"]


def test_an_empty_benchmark_fails_through_the_whole_gate_and_ends_in_no_traceback(tmp_path):
    a_build(tmp_path, ("kept",))
    write(tmp_path / "benchmark/kept", {"metrics.json": {}}, {"artifact": tmp_path / "artifact/kept"})
    entry = judged_build(tmp_path, "kept")["kept"]
    assert entry["verdict"] == "fail"
    assert "size_bytes was not measured" in entry["reasons"]
    assert "size_bytes" not in entry["metrics"]


@pytest.mark.parametrize("stage", ["parity", "benchmark"])
def test_a_runtime_that_is_not_the_locked_one_fails_and_the_verdict_names_what_ran(tmp_path, stage):
    a_build(tmp_path, ("kept",))
    found = {"parity": parity, "benchmark": benchmark}[stage](runtime_versions={"onnxruntime": "1.19.2"})
    write(tmp_path / stage / "kept", {"metrics.json": found}, {"artifact": tmp_path / "artifact/kept"})
    entry = judged_build(tmp_path, "kept")["kept"]
    assert entry["reasons"][0].startswith(f"{stage} ran on onnxruntime 1.19.2, the lock has 1.32.0")
    assert entry["runtime_versions"] == {"onnxruntime": "1.19.2" if stage == "parity" else "1.32.0"}


def test_a_parity_that_does_not_say_what_ran_fails(tmp_path):
    a_build(tmp_path, ("kept",))
    found = {name: value for name, value in parity().items() if name != "runtime_versions"}
    write(tmp_path / "parity/kept", {"metrics.json": found}, {"artifact": tmp_path / "artifact/kept"})
    assert judged_build(tmp_path, "kept")["kept"]["reasons"][0] == "parity does not say what it ran on; run it again"


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
