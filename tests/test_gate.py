"""The gate passes what is known to be good and nothing else."""

import json

import pytest

from stages import gate
from stages.core import artifact, params
from stages.core.errors import ArtifactError
from stages.judging import verdict
from stages.measure import metrics
from stages.schema.gate import Gate, Threshold


def bound(metric, unit, min_n=10, **limits):
    return params.parse(Threshold, {"metric": metric, "unit": unit, "min_n": min_n, **limits}, "gate")


AGREEMENT = bound("top1_agreement", "fraction", at_least=0.97)
ERROR = bound("max_abs_error", "logit", at_most=0.1)
HOST = {"cpu_isa": "avx2", "machine": "x86_64"}
GOOD = {"top1_agreement": 0.99, "max_abs_error": 0.05, "non_finite_count": 0, "n": 2000}


def measurement(**changes):
    fields = {"status": "measured", "reason": "", "altered": [], "values": GOOD, "intervals": {}}
    return verdict.Measurement(**fields | changes)


def judged(measured, floor=()):
    return verdict.judge(measured, [AGREEMENT, ERROR], 1000, floor)


def test_good_measurements_pass_without_reasons():
    assert judged(measurement()) == verdict.Verdict("pass", [])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"values": GOOD | {"top1_agreement": 0.5}}, r"top1_agreement value 0\.5 < 0\.97 fraction"),
        ({"values": GOOD | {"max_abs_error": 1.0}}, r"max_abs_error value 1 > 0\.1 logit"),
        ({"values": GOOD | {"max_abs_error": float("nan")}}, "max_abs_error value nan"),
        ({"values": {"n": 2000, "max_abs_error": 0.0}}, "top1_agreement was not measured"),
        ({"values": GOOD | {"n": 5}}, "measured on 5 items, at least 10 are needed"),
        ({"status": "failed", "reason": "cannot load"}, "cannot load"),
        ({"altered": ["'model.onnx' has sha256 0"]}, "differs from its manifest"),
        ({"same_host": False}, "taken on another host"),
    ],
)
def test_each_fault_fails_with_its_reason(changes, reason):
    found = judged(measurement(**changes))
    assert found.verdict == "fail"
    assert any(__import__("re").search(reason, line) for line in found.reasons)


LOST = bound("weight_cosine_min", "cosine", at_least=0.9)


def audited(cosine, status="measured"):
    audit = {"values": {"weight_cosine_min": cosine, "n": 2000}, "weights": {"a.weight": cosine, "b.weight": 0.99}}
    split = {"values": GOOD, "intervals": {}}
    parity = {"status": status, "altered": [], "runtime": "r", "reason": "macOS only", "audit": audit}
    measured = verdict.flatten(
        parity | {"probe": split, "test": split, "coverage": split},
        {"status": "measured", "values": {}, "intervals": {}, "host": {}},
        {},
    )
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
    body["values"] = {metric: 1, "n": 2000}
    split = {"values": GOOD, "intervals": {}}
    parity = {"status": "measured", "altered": [], "runtime": "r", "probe": split, "test": split, "coverage": split}
    benchmark = {"status": "measured", "values": {}, "intervals": {}, "host": {}}
    measured = verdict.flatten(parity | part, benchmark, {})
    unit = metrics.REGISTRY[metric].unit
    assert verdict.judge(measured, [bound(metric, unit, at_most=0)], 1000, []).reasons == [reason]


def test_a_lost_weight_fails_where_nothing_can_run():
    assert audited(0.95, "not_measured") == verdict.Verdict("not_measured", ["macOS only"])
    lost = ["weight_cosine_min value 0 < 0.9 cosine (a.weight)", "macOS only"]
    assert audited(0.0, "not_measured") == verdict.Verdict("fail", lost)


def test_weights_that_were_not_audited_fail():
    assert verdict.judge(measurement(), [LOST], 1000, []).reasons == ["weight_cosine_min was not measured"]


def test_few_items_are_judged_at_the_unfavourable_end():
    few = measurement(values=GOOD | {"n": 200}, intervals={"top1_agreement": [0.96, 0.999]})
    assert judged(few).reasons == ["top1_agreement 95 % bound (n = 200) 0.96 < 0.97 fraction"]
    many = measurement(values=GOOD | {"n": 2000}, intervals={"top1_agreement": [0.96, 0.999]})
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
    summary = {"accuracy": 0.1, "accuracy_interval": [0.08, 0.12], "n": 2000}
    reasons = verdict.judge_reference(settings, "none", summary)
    assert reasons == ["reference 'none': accuracy value 0.1 < 0.5 fraction"]
    assert judged(measurement(), reasons).verdict == "fail"


def test_extremes_come_from_the_worse_split():
    split = {"values": GOOD, "intervals": {}}
    worse = {"values": GOOD | {"max_abs_error": 9.0, "n": 64}, "intervals": {}}
    parity = {"status": "measured", "altered": [], "runtime": "r", "probe": worse, "test": split, "coverage": split}
    flat = verdict.flatten(parity, {"status": "measured", "values": {"size_bytes": 1}, "intervals": {}, "host": {}}, {})
    assert flat.values["max_abs_error"] == 9.0
    assert flat.values["n"] == 2000
    assert flat.values["size_bytes"] == 1


@pytest.mark.parametrize("part", ["probe", "test", "coverage"])
def test_nan_in_one_split_alone_fails(part):
    bad = {"values": {"non_finite_count": 3, "n": 64}, "intervals": {}}
    good = {"values": GOOD, "intervals": {}}
    splits = {"probe": good, "test": good, "coverage": good, part: bad}
    parity = {"status": "measured", "altered": [], "runtime": "r", **splits}
    flat = verdict.flatten(parity, {"status": "measured", "values": {}, "intervals": {}, "host": {}}, {})
    finite = bound("non_finite_count", "count", at_most=0)
    assert verdict.judge(flat, [finite], 1000, []).reasons == ["non_finite_count value 3 > 0 count"]


def write(path, files, parents=None):
    with artifact.writing(path, stage="test", parents=parents or {}) as temporary:
        for name, value in files.items():
            artifact.write_json(temporary / name, value)


def test_leftovers_of_removed_variants_are_not_judged_and_the_contract_holds(tmp_path):
    artifact.write_json(tmp_path / "host.json", HOST)
    write(tmp_path / "reference/none", {"summary.json": {"accuracy": 0.9, "accuracy_interval": [0.8, 1], "n": 2000}})
    for role in ("teacher", "student"):
        write(tmp_path / role, {"evaluation.json": {"accuracy": 0.9, "parameters": 10, "n": 2000}})
    split = {"values": GOOD | {"accuracy": 0.9}, "intervals": {}}
    splits = {"probe": split, "test": split, "coverage": split}
    for key in ("kept", "leftover"):
        write(tmp_path / "artifact" / key, {"model.json": key})
        parents = {"artifact": tmp_path / "artifact" / key}
        write(
            tmp_path / "parity" / key,
            {"metrics.json": {"status": "measured", "altered": [], "runtime": "r", **splits}},
            parents,
        )
        values = {"size_bytes": 10, "latency_p50_ms": 0.5}
        write(
            tmp_path / "benchmark" / key,
            {"metrics.json": {"status": "measured", "host": HOST, "values": values, "intervals": {}}},
            parents,
        )
    variant = {"compression": "none", "target": "onnx-cpu", "precision": "fp32", "required": True}
    settings = params.parse(
        gate.Params,
        {
            "benchmark": {"threads": 1, "warmup": 1, "repetitions": 10, "utterances": 1, "confidence": 0.95},
            "gate": {
                "baseline": None,
                "interval_below_n": 1000,
                "reference": [{"metric": "accuracy", "unit": "fraction", "at_least": 0.5, "min_n": 10}],
                "every": [{"metric": "non_finite_count", "unit": "count", "at_most": 0, "min_n": 10}],
                "precisions": {"fp32": [{"metric": "max_abs_error", "unit": "logit", "at_most": 0.1, "min_n": 10}]},
            },
            "precisions": {"fp32": {"kind": "float", "bits": 32}},
            "variants": {"kept": variant | {"release_not_measured": False}},
        },
        "",
    )
    gate.run(settings, tmp_path, tmp_path / "verdicts.json", tmp_path / "metrics.json")
    entries = json.loads((tmp_path / "verdicts.json").read_text(encoding="utf-8"))["variants"]
    assert list(entries) == ["kept"]
    entry = entries["kept"]
    assert (entry["target"], entry["compression"], entry["precision"]) == ("onnx-cpu", "none", "fp32")
    assert (entry["verdict"], entry["reasons"]) == ("pass", [])
    assert entry["thresholds"] == settings.gate.applied("fp32")
    assert [bound["metric"] for bound in entry["thresholds"]["variant"]] == ["non_finite_count", "max_abs_error"]
    assert entry["thresholds"]["interval_below_n"] == 1000
    assert {"size_bytes", "latency_p50_ms", "accuracy", "top1_agreement", "max_abs_error", "n"} <= set(entry["metrics"])
    assert not (tmp_path / "parity/leftover").exists()
    with artifact.writing(tmp_path / "artifact/kept", stage="test", parents={}) as other:
        artifact.write_json(other / "model.json", "another")
    gate.run(settings, tmp_path, tmp_path / "verdicts.json", tmp_path / "metrics.json")
    entry = json.loads((tmp_path / "verdicts.json").read_text(encoding="utf-8"))["variants"]["kept"]
    assert entry["verdict"] == "fail"
    assert any("its parity was measured on another artifact" in reason for reason in entry["reasons"])
    assert entry["reasons"][-1] == entry["divergence"]["conclusion"]
    assert entry["reasons"][-1].startswith("first divergence not located: ")
    (tmp_path / "parity/kept/metrics.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ArtifactError, match="is not what its stage wrote"):
        gate.run(settings, tmp_path, tmp_path / "verdicts.json", tmp_path / "metrics.json")


def test_leftovers_of_removed_variants_are_deleted_and_nothing_else(tmp_path):
    for name in ("artifact/kept", "artifact/gone", "parity/gone", "benchmark/kept", "release/gone", "data"):
        (tmp_path / name).mkdir(parents=True)
    assert gate.remove_leftovers(tmp_path, ["kept"]) == [f"{tmp_path}/artifact/gone", f"{tmp_path}/parity/gone"]
    assert (tmp_path / "artifact/kept").is_dir()
    assert (tmp_path / "data").is_dir()


def test_nan_fails_even_where_no_threshold_asks():
    broken = measurement(values=GOOD | {"non_finite_count": 999})
    assert verdict.judge(broken, [ERROR], 1000, []).reasons == ["999 outputs are NaN or infinite"]


def test_an_artifact_that_breaks_while_it_is_timed_fails():
    found = judged(measurement(timing="cannot be timed: Segmentation fault", timing_failed=True))
    assert found.reasons == ["benchmark: cannot be timed: Segmentation fault"]
    assert found.verdict == "fail"
