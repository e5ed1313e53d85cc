"""Publishing once, again, after a change, after a kill, and without a server."""

import json
import shutil
import time

import pytest

from stages import track
from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.schema.layout import PLACES
from stages.tracking import fetch, place, record
from tests.toys.tracked_build import (
    ARGUMENTS,
    ONCE,
    REASONS,
    SECRET,
    UTTERANCE,
    VARIANTS,
    ask,
    counts,
    here,
    start,
    variant,
    write_variant,
)


@pytest.mark.target
def test_a_second_publish_adds_nothing(tracked):
    assert counts(tracked) == ONCE
    assert here(tracked) == []
    assert counts(tracked) == ONCE


@pytest.mark.target
def test_only_passing_variants_are_registered_and_all_are_tracked_with_reasons(tracked):
    registered = {f"tinsmith.{key}" for key in VARIANTS if VARIANTS[key][3] == "pass"}
    assert set(ask(tracked, "SELECT name FROM registered_models")) == registered
    assert set(ask(tracked, "SELECT name, alias FROM registered_model_aliases")) == {
        (name, "candidate") for name in registered
    }
    reasons = "SELECT r.name, t.value FROM runs r JOIN tags t USING (run_uuid) WHERE t.key = 'reasons'"
    assert dict(ask(tracked, reasons)) == {
        "onnx-cpu-int8 (fail)": REASONS["fail"][0],
        "onnx-cpu-late (not measured)": REASONS["not_measured"][0],
    }
    verdicts = "SELECT t.value FROM runs r JOIN tags t USING (run_uuid) WHERE t.key = 'verdict'"
    assert sorted(ask(tracked, verdicts)) == ["fail", "not_measured", "pass", "pass"]


@pytest.mark.target
def test_the_chain_and_the_counts_are_in_the_database(tracked):
    found = variant(tracked, "onnx-cpu-fp32")
    query = "SELECT t.key, t.value FROM runs r JOIN tags t USING (run_uuid) WHERE r.name = 'onnx-cpu-fp32 (pass)'"
    tags = dict(ask(tracked, query))
    assert {stage: tags[stage] for stage in PLACES} == {
        stage: digest[: record.SHORT] for stage, digest in found.chain.items()
    }
    assert ('{"num_rows": 3}', "clinc150.test") in ask(tracked, "SELECT dataset_profile, name FROM datasets")


@pytest.mark.target
def test_changed_content_adds_its_variant_and_a_build_and_moves_the_alias(tracked):
    write_variant(tracked, "onnx-cpu-fp32", "other bytes")
    assert here(tracked) == ["build", "onnx-cpu-fp32"]
    assert counts(tracked) == {"aliases": 2, "models": 5, "runs": 7, "unfinished": 0, "versions": 3}
    assert dict(ask(tracked, "SELECT name, version FROM registered_model_aliases")) == {
        "tinsmith.coreml-metal-fp16": 1,
        "tinsmith.onnx-cpu-fp32": 2,
    }


@pytest.mark.target
def test_a_second_build_links_to_the_first_and_to_every_variant_wherever_it_was_tracked(tracked):
    runs = dict(ask(tracked, "SELECT name, run_uuid FROM runs"))
    write_variant(tracked, "onnx-cpu-fp32", "other bytes")
    here(tracked)
    query = "SELECT r.name, t.value FROM runs r JOIN tags t USING (run_uuid) WHERE t.key = 'mlflow.note.content'"
    notes = ask(tracked, f"{query} ORDER BY r.start_time")
    later = [run for run in ask(tracked, "SELECT run_uuid FROM runs") if run not in runs.values()]
    build_note, variant_note = (next(text for name, text in notes[5:] if kind in name) for kind in ("build", "fp32"))
    assert "Before this" not in notes[0][1]
    for key, run in (
        ("coreml-metal-fp16 (pass, interpreted)", "coreml-metal-fp16"),
        ("onnx-cpu-int8 (fail)", "onnx-cpu-int8"),
    ):
        assert f"[{run}](#/experiments/1/runs/{runs[key]})" in build_note
    assert any(f"[onnx-cpu-fp32](#/experiments/1/runs/{run})" in build_note for run in later)
    earlier = next(name for name in runs if "build" in name)
    assert f"Before this: [{earlier}](#/experiments/1/runs/{runs[earlier]})" in build_note
    assert f"compare-runs?runs=%5B%22{runs['onnx-cpu-fp32 (pass)']}%22,%22" in variant_note


@pytest.mark.target
def test_a_variant_that_no_longer_passes_keeps_its_alias_on_the_version_that_did(tracked):
    write_variant(tracked, "onnx-cpu-fp32", "broken bytes")
    judged = json.loads((tracked / "verdicts.json").read_text(encoding="utf-8"))
    judged["variants"]["onnx-cpu-fp32"] |= {"verdict": "fail", "reasons": ["max_abs_error value 9 > 1 logit"]}
    artifact.write_json(tracked / "verdicts.json", judged)
    assert here(tracked) == ["build", "onnx-cpu-fp32"]
    assert counts(tracked)["versions"] == 2
    assert dict(ask(tracked, "SELECT name, version FROM registered_model_aliases"))["tinsmith.onnx-cpu-fp32"] == 1


@pytest.mark.target
@pytest.mark.parametrize(
    "dies_at", ["log_batch", "log_model_artifacts", "set_registered_model_alias", "set_terminated"]
)
def test_what_a_kill_left_unfinished_is_replaced(build, empty_database, monkeypatch, dies_at):
    from mlflow import MlflowClient

    (build.parent / "mlruns").mkdir()
    shutil.copy2(empty_database, build.parent / "mlruns" / "mlflow.db")

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, dies_at, killed)
        with pytest.raises(KeyboardInterrupt):
            here(build)
    assert counts(build)["unfinished"] > 0
    assert "build" in here(build)
    assert counts(build) == ONCE
    assert ask(build, "SELECT count(*) FROM runs WHERE lifecycle_stage = 'deleted'")[0] > 0


@pytest.mark.target
def test_a_deleted_database_is_refilled_and_found_again_without_importing_mlflow(build, empty_database):
    shared = {"MLFLOW_TRACKING_URI": f"sqlite:///{build.parent}/elsewhere.db"}
    shutil.copy2(empty_database, build.parent / "elsewhere.db")
    assert start(build, **shared).communicate(timeout=120)[0].endswith("onnx-cpu-late\nheavy\n")
    assert not (build.parent / "mlruns").exists()
    again = start(build, **shared).communicate(timeout=120)[0]
    assert again.startswith("MLflow has this build")
    assert again.endswith("light\n")
    assert counts(build, "elsewhere.db") == ONCE

    (build.parent / "elsewhere.db").unlink()
    shutil.copy2(empty_database, build.parent / "elsewhere.db")
    assert here(build, "elsewhere.db") == ["build", *VARIANTS]
    assert counts(build, "elsewhere.db") == ONCE

    for path in (path for path in build.parent.rglob("*") if path.is_file() and path.parent != build / "data"):
        content = path.read_bytes()
        assert SECRET.encode() not in content, path
        assert UTTERANCE.encode() not in content, path


@pytest.mark.target
def test_two_builds_that_end_together_write_every_run_and_version_once(build, empty_database):
    (build.parent / "mlruns").mkdir()
    shutil.copy2(empty_database, build.parent / "mlruns" / "mlflow.db")
    both = [start(build) for _ in range(2)]
    said = sorted(process.communicate(timeout=120)[0] for process in both)
    assert said[0].startswith("MLflow has this build")
    assert said[1].startswith("MLflow: wrote build")
    assert counts(build) == ONCE


@pytest.mark.target
def test_a_server_that_does_not_answer_is_one_line_within_seconds(build, monkeypatch, capsys):
    for name, value in place.PATIENCE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:hunter2@127.0.0.1:9")
    monkeypatch.chdir(build.parent)
    started = time.perf_counter()
    assert track.main(ARGUMENTS) == 1
    assert time.perf_counter() - started < 30
    said = capsys.readouterr().err
    assert said.startswith("error: cannot track in 'http://127.0.0.1:9'")
    assert said.count("\n") == 1
    assert "hunter2" not in said


def test_a_clone_without_outputs_or_remote_is_told_how_to_get_them(build, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    judged = artifact.read_json(build / "verdicts.json")["variants"]
    assert fetch.lay_out(build, judged) == []
    shutil.rmtree(build / "artifact")
    shutil.rmtree(build / "teacher")
    said = rf"'{build / 'teacher'}' is not here \({1 + len(VARIANTS)} outputs\), and `dvc pull` does not bring it: .*"
    with pytest.raises(ArtifactError, match=said + r"next: push it from where it was built"):
        fetch.lay_out(build, judged)
