"""The whole gate: what lies in a build is judged, and nothing ends in a traceback."""

import json

import pytest

from stages import gate
from stages.core import artifact, params
from stages.core.errors import ArtifactError
from stages.schema.gate import Threshold
from stages.schema.verdict import Entry
from tests.toys.measurements import HOST, benchmark, parity
from tests.toys.operators import coverage_of

LOCK = "onnxruntime==1.32.0\n"


class Prepared(params.Section):
    task: dict[str, str]


def write(path, files, parents=None):
    with artifact.writing(
        path, stage="test", parents=parents or {}, params=Prepared(task={"name": "classify"})
    ) as temporary:
        for name, value in files.items():
            artifact.write_json(temporary / name, value)


def a_build(path, keys):
    """A build of sound variants, as far as the gate reads it."""
    artifact.write_json(path / "host.json", HOST)
    (path / "constraints.txt").write_text(LOCK, encoding="utf-8")
    summary = {"accuracy": 0.9, "accuracy_interval": [0.8, 1], "n": 2000, "counts": {"test": 2000}}
    write(path / "reference/none", {"summary.json": summary})
    baseline = {"accuracy": 0.7, "accuracy_interval": [0.6, 0.8], "method": "words", "n": 2000}
    write(path / "data", {"summary.json": {"baseline": baseline}})
    for role in ("teacher", "student"):
        score = {"accuracy": 0.9, "accuracy_interval": [0.8, 1], "parameters": 10, "n": 2000}
        write(path / role, {"evaluation.json": score})
    for key in keys:
        write(path / "artifact" / key, {"model.json": key})
        parents = {"artifact": path / "artifact" / key}
        write(path / "parity" / key, {"metrics.json": parity()}, parents)
        write(path / "benchmark" / key, {"metrics.json": benchmark()}, parents)
        write(path / "coverage" / key, {"metrics.json": coverage_of("onnx-cpu")}, parents)


def settings_of(key):
    variant = {"compression": "none", "target": "onnx-cpu", "precision": "fp32", "required": True}
    return params.parse(
        gate.Params,
        {
            "devices": {},
            "gate": {
                "baseline": None,
                "interval_below_n": 1000,
                "targets": {},
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
    assert set(entry) == set(Entry.__annotations__) - {"divergence", "foreign_cores"}
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


BUDGET = {"metric": "ort_nnapi_partitions", "unit": "count", "min_n": 1}
SHARE = {"metric": "ort_nnapi_macs", "unit": "fraction", "min_n": 1}


def judged_with(path, *bounds):
    settings = settings_of("kept")
    asked = settings.gate.model_copy(update={"targets": {"onnx-cpu": [Threshold(**bound) for bound in bounds]}})
    settings = settings.model_copy(update={"gate": asked})
    gate.run(settings, path, path / "constraints.txt", path / "verdicts.json", path / "metrics.json")
    return json.loads((path / "verdicts.json").read_text(encoding="utf-8"))["variants"]["kept"]


def test_a_budget_of_a_target_is_judged_like_any_threshold_and_names_what_is_refused(tmp_path):
    a_build(tmp_path, ("kept",))
    assert judged_with(tmp_path, BUDGET | {"at_most": 2}, SHARE | {"at_least": 1})["verdict"] == "pass"
    entry = judged_with(tmp_path, BUDGET | {"at_most": 1})
    assert entry["verdict"] == "fail"
    assert entry["reasons"] == [
        "ort_nnapi_partitions value 2 > 1 count (com.microsoft::FastGelu: an operator of ONNX Runtime's own, "
        "which fuses several for its CPU)"
    ]
    assert entry["metrics"]["ort_nnapi_partitions"] == 2
    assert [bound["metric"] for bound in entry["thresholds"]["variant"]][-1] == "ort_nnapi_partitions"


def test_coverage_that_could_not_be_told_fails_only_where_a_budget_asks_for_it(tmp_path):
    a_build(tmp_path, ("kept",))
    failed = {"status": "failed", "reason": "onnxruntime cannot run it", "target": "onnx-cpu"}
    write(tmp_path / "coverage/kept", {"metrics.json": failed}, {"artifact": tmp_path / "artifact/kept"})
    assert judged_with(tmp_path)["verdict"] == "pass"
    entry = judged_with(tmp_path, BUDGET | {"at_most": 9})
    assert entry["reasons"] == ["ort_nnapi_partitions was not measured (onnxruntime cannot run it)"]


def test_coverage_of_other_bytes_fails(tmp_path):
    a_build(tmp_path, ("kept",))
    write(tmp_path / "other", {"model.json": "other"})
    write(tmp_path / "coverage/kept", {"metrics.json": coverage_of("onnx-cpu")}, {"artifact": tmp_path / "other"})
    (reason,) = judged_with(tmp_path)["reasons"]
    assert reason.endswith("its coverage was measured on another artifact")


def test_a_verdict_names_the_honesty_bar_and_says_when_it_is_the_better_choice(tmp_path):
    a_build(tmp_path, ("kept",))
    entry = judged_build(tmp_path, "kept")["kept"]
    assert entry["bar"] == {"interval": [0.6, 0.8], "method": "words", "metric": "accuracy", "value": 0.7}
    assert entry["metrics"]["accuracy_over_bar"] == pytest.approx(entry["metrics"]["accuracy"] - 0.7)
    assert entry["metrics"]["accuracy_kept_of_teacher"] == pytest.approx(entry["metrics"]["accuracy"] / 0.9)
    assert not any("is better on this test split" in note for note in entry["notes"])
    found = parity()
    found["test"]["values"]["accuracy"], found["test"]["intervals"]["accuracy"] = 0.9, [0.88, 0.92]
    write(tmp_path / "parity/kept", {"metrics.json": found}, {"artifact": tmp_path / "artifact/kept"})
    baseline = {"accuracy": 0.93, "accuracy_interval": [0.92, 0.94], "method": "words", "n": 2000}
    write(tmp_path / "data", {"summary.json": {"baseline": baseline}})
    entry = judged_build(tmp_path, "kept")["kept"]
    assert entry["verdict"] == "pass"  # conf/gate/above_bar.yaml forbids it
    assert entry["notes"][0].startswith("words is better on this test split: accuracy 93.00 %, 3.00 points more [")
