"""What is told to MLflow follows from files alone, and says what a reader must know."""

import json
import shutil
import subprocess

import pytest

from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.tracking import content, record, wording
from tests.toys.tracked_build import DOMINATED, NOTE, SPLIT_SIZES, VARIANTS, collect, variant, write_variant


def test_the_same_files_give_the_same_record(build):
    assert collect(build) == collect(build)


def test_a_changed_artifact_changes_its_variant_and_the_build_alone(build):
    before = {found.key: found.fingerprint for found in collect(build).variants}
    whole = collect(build).fingerprint
    write_variant(build, "onnx-cpu-fp32", "other bytes")
    after = {found.key: found.fingerprint for found in collect(build).variants}
    assert {key for key in after if after[key] != before[key]} == {"onnx-cpu-fp32"}
    assert collect(build).fingerprint != whole


def test_a_changed_verdict_changes_the_fingerprint(build):
    before = variant(build, "onnx-cpu-fp32").fingerprint
    judged = json.loads((build / "verdicts.json").read_text(encoding="utf-8"))
    judged["variants"]["onnx-cpu-fp32"]["verdict"] = "fail"
    artifact.write_json(build / "verdicts.json", judged)
    assert variant(build, "onnx-cpu-fp32").fingerprint != before


def test_the_fingerprint_does_not_know_the_commit(build, monkeypatch):
    before = collect(build).fingerprint
    monkeypatch.setattr(record, "git_state", lambda: {"rev": "f" * 40, "dirty": "true"})
    assert collect(build).fingerprint == before


def test_a_missing_stage_output_is_an_error_that_names_it(build):
    shutil.rmtree(build / "reference" / "pruned")
    with pytest.raises(ArtifactError, match=r"reference/pruned' has no manifest\.json"):
        collect(build)


def test_the_honesty_bar_stands_beside_what_teacher_student_and_variants_score(build):
    found = collect(build)
    bar = {name: value for name, value in found.metrics.items() if name.startswith("honesty_bar/")}
    assert bar == {"honesty_bar/accuracy": 0.71, "honesty_bar/accuracy.high": 0.75, "honesty_bar/accuracy.low": 0.66}
    assert found.params["honesty_bar"] == "words"
    judged = json.loads((build / "verdicts.json").read_text(encoding="utf-8"))
    judged["variants"]["onnx-cpu-fp32"] |= {
        "bar": {"interval": [0.66, 0.75], "method": "words", "metric": "accuracy", "value": 0.71}
    }
    artifact.write_json(build / "verdicts.json", judged)
    assert "Honesty bar (words): accuracy 71.00 %." in wording.measured(variant(build, "onnx-cpu-fp32"))


def test_metrics_are_grouped_with_intervals_beside_their_value(build):
    assert variant(build, "onnx-cpu-fp32").metrics == {
        "agreement/teacher": 0.95,
        "agreement/teacher.high": 0.96,
        "agreement/teacher.low": 0.94,
        "benchmark/latency_p50_ms": 1.5,
        "benchmark/latency_p50_ms.high": 1.6,
        "benchmark/latency_p50_ms.low": 1.4,
        "benchmark/size_bytes": 1000.0,
        "parity/max_abs_error": 0.01,
        "quality/accuracy": 0.5,
        "quality/accuracy.high": 0.6,
        "quality/accuracy.low": 0.4,
        "quality/n": 3.0,
    }


def test_platforms_agree_as_much_as_their_least_agreeing_passing_variants(build):
    assert collect(build).metrics["agreement/across_platforms"] == 0.97
    judged = json.loads((build / "verdicts.json").read_text(encoding="utf-8"))
    judged["variants"]["onnx-cpu-fp32"]["verdict"] = "fail"
    artifact.write_json(build / "verdicts.json", judged)
    assert "agreement/across_platforms" not in collect(build).metrics


def test_a_variant_carries_the_settings_that_shaped_its_bytes(build):
    params = variant(build, "onnx-cpu-int8").params
    assert params["compression"] == "pruned"
    assert params["compression.heads_fraction"] == "0.5"
    assert params["precision.kind"] == "static_wi8_ai8"
    assert params["verdict"] == "fail"


def test_splits_carry_counts_and_digests_of_their_files(build):
    found = {split.role: split for split in collect(build).splits}
    assert {role: split.count for role, split in found.items()} == SPLIT_SIZES
    assert found["test"].digest == artifact.sha256(build / "data" / "test.jsonl")
    assert found["test"].name == "clinc150.test"


def test_outside_a_repository_the_revision_is_unknown_rather_than_clean(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert record.git_state() == {"rev": "unknown", "dirty": "unknown"}


def test_what_a_build_itself_writes_does_not_make_its_revision_dirty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    settings = tmp_path / "conf" / "config.yaml"
    settings.write_text("a: 1", encoding="utf-8")
    for command in ("init", "add conf", "-c user.name=a -c user.email=a@b commit -m first"):
        subprocess.run(["git", *command.split()], check=True, capture_output=True)
    (tmp_path / "dvc.lock").write_text("written by dvc repro", encoding="utf-8")
    assert record.git_state()["dirty"] == "false"
    settings.write_text("a: 2", encoding="utf-8")
    assert record.git_state()["dirty"] == "true"


@pytest.mark.parametrize("key", VARIANTS)
def test_a_description_opens_with_the_verdict_and_its_reasons(build, key):
    found = variant(build, key)
    text = wording.describe(found, collect(build), "models:/m-1", "")
    assert text.startswith(f"**{wording.PLAIN[VARIANTS[key][3]].upper()}**")
    assert all(reason in text for reason in found.verdict["reasons"])
    assert all(digest in text for digest in found.chain.values())
    assert "stages.audit models:/m-1\n" in text
    assert "artifacts download -u models:/m-1 " in text


def test_no_latency_is_described_without_the_verdict_beside_it(build):
    assert "1.5 ms (95 %: 1.4 to 1.6) on Example CPU, 2 cores, avx2: fail." in wording.measured(
        variant(build, "onnx-cpu-int8")
    )
    assert "(fail)" in wording.run_name(variant(build, "onnx-cpu-int8"))


def test_dominated_and_notes_stand_under_the_verdict(build):
    assert f"- dominated: {DOMINATED}" in wording.headline(variant(build, "onnx-cpu-int8"))
    assert f"- {NOTE}" in wording.headline(variant(build, "coreml-metal-fp16"))
    assert "dominated" not in wording.headline(variant(build, "onnx-cpu-fp32"))
    assert content.tags_of(variant(build, "onnx-cpu-int8"))["dominated"] == DOMINATED
    assert not {"dominated", "notes"} & set(content.tags_of(variant(build, "onnx-cpu-fp32")))


def test_every_chosen_device_is_a_row_a_number_and_a_word(build):
    fits = {
        "phone": {"accelerator": "gpu", "beside": ["npu takes 2 parts"], "reasons": [], "title": "A phone"},
        "watch": {"accelerator": "", "beside": [], "reasons": ["size_bytes 9 > 1 byte"], "title": "A watch"},
    }
    found = variant(build, "onnx-cpu-fp32")
    assert "| device |" not in wording.describe(found, collect(build), "models:/m-1", "")
    found.verdict["devices"] = fits
    text = wording.describe(found, collect(build), "models:/m-1", "")
    assert "| phone: A phone | yes | gpu | npu takes 2 parts |" in text
    assert "| watch: A watch | no | nothing | size_bytes 9 > 1 byte |" in text
    assert content.tags_of(found)["devices"] == "phone: gpu; watch: no"
    metrics = record._metrics(found.verdict)
    assert (metrics["devices/phone.fits"], metrics["devices/watch.fits"]) == (1, 0)


def test_an_interpreted_artifact_is_loud_about_it(build):
    found = variant(build, "coreml-metal-fp16")
    assert wording.run_name(found) == "coreml-metal-fp16 (pass, interpreted)"
    assert "NOT RUN BY CORE ML" in wording.headline(found)
    assert "No latency: Core ML runs on macOS only." in wording.measured(found)


def test_uncommitted_changes_are_written_beside_the_revision(build, monkeypatch):
    monkeypatch.setattr(record, "git_state", lambda: {"rev": "f" * 40, "dirty": "true"})
    assert "uncommitted changes" in wording.describe_build(collect(build), dict.fromkeys(VARIANTS, "link"), "")
