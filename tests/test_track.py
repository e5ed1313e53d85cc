"""What MLflow is told about a build, and that it is told once."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages import track
from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.core.process import host_fingerprint
from stages.schema.layout import PLACES
from stages.tracking import content, fetch, place, record, store, wording
from stages.tracking.errors import TrackingRefused

REPOSITORY = Path(__file__).resolve().parents[1]
RUNTIMES = {"coreml-metal": "reference-interpreted", "onnx-cpu": "onnxruntime-cpu"}
# variant → compression, target, precision, verdict
VARIANTS = {
    "coreml-metal-fp16": ("none", "coreml-metal", "fp16", "pass"),
    "onnx-cpu-fp32": ("none", "onnx-cpu", "fp32", "pass"),
    "onnx-cpu-int8": ("pruned", "onnx-cpu", "static_wi8_ai8", "fail"),
    "onnx-cpu-late": ("none", "onnx-cpu", "fp16", "not_measured"),
}
REASONS = {"fail": ["top1_agreement value 0.5 < 0.99 fraction"], "not_measured": ["the host has no such runtime"]}
DOMINATED = "no better than 'onnx-cpu-fp32' on any axis measured here: 2.00 MB against 1.00"
NOTE = "interpreted in numpy: Apple's runtime may round otherwise"
UTTERANCE = "zanzibar umbrella quotation"
SECRET = "hunter2-planted-token"
PARAMS = {"data": {"kind": "clinc150", "seed": 1}, "precisions": {"fp32": {"kind": "float"}}, "gate": {"x": 1}}
SPLIT_SIZES = {"train": 4, "validation": 2, "calibration": 1, "probe": 1, "test": 3}


def pair(first, second, agreement):
    kinds = {"first_kind": "teacher" if first == "teacher" else "variant", "second_kind": "variant"}
    bounds = {"agreement": agreement, "agreement_high": agreement + 0.01, "agreement_low": agreement - 0.01}
    return {"first": first, "second": second, "n": 3} | kinds | bounds


# Failing and pruned variants are further away, and the platforms' passing ones agree by 0.97.
PAIRS = [
    pair("teacher", "onnx-cpu-fp32", 0.95),
    pair("coreml-metal-fp16", "onnx-cpu-fp32", 0.97),
    pair("coreml-metal-fp16", "onnx-cpu-int8", 0.3),
    pair("coreml-metal-fp16", "onnx-cpu-late", 0.5),
]


def write(path, stage, files, params=None):
    with artifact.writing(path, stage=stage, parents={}) as out:
        for name, content in files.items():
            if isinstance(content, str):
                (out / name).write_text(content, encoding="utf-8")
            else:
                artifact.write_json(out / name, content)
    if params:
        manifest = artifact.manifest(path)
        artifact.write_json(path / artifact.MANIFEST, manifest | {"params": params})


def verdict_of(key):
    compression, target, precision, verdict = VARIANTS[key]
    entry = {
        "compression": compression,
        "dominated": DOMINATED if key == "onnx-cpu-int8" else "",
        "intervals": {},
        "metrics": {"size_bytes": 1000},
        "notes": [NOTE] if target == "coreml-metal" else [],
        "precision": precision,
        "reasons": REASONS.get(verdict, []),
        "runtime": None if verdict == "not_measured" else RUNTIMES[target],
        "target": target,
        "timing": "Core ML runs on macOS only" if target == "coreml-metal" else "",
        "verdict": verdict,
    }
    if verdict != "not_measured":
        entry["metrics"] |= {"accuracy": 0.5, "max_abs_error": 0.01, "n": 3}
        entry["intervals"]["accuracy"] = [0.4, 0.6]
        if target != "coreml-metal":
            entry["metrics"]["latency_p50_ms"] = 1.5
            entry["intervals"]["latency_p50_ms"] = [1.4, 1.6]
    return entry


def write_variant(build, key, content="bytes"):
    _, target, precision, _ = VARIANTS[key]
    params = {"precision": {"kind": precision}, "target": {"name": target}}
    write(build / "artifact" / key, "quantize", {"model.bin": f"{key} {content}"}, params)
    write(build / "parity" / key, "parity", {"metrics.json": {"status": "measured"}})
    host = {"cores": 2, "cpu_isa": "avx2", "cpu_model": "Example CPU", "machine": "x86_64"}
    values = {"latency_p50_ms": 1.5, "size_bytes": 1000}
    write(build / "benchmark" / key, "benchmark", {"metrics.json": {"host": host, "values": values}})


def make(workspace):
    """Lay out a finished build with a passing, an interpreted, a failing and an unmeasured variant."""
    root = workspace / "build"
    rows = {name: [{"label": "a", "text": f"{UTTERANCE} {name}"}] * size for name, size in SPLIT_SIZES.items()}
    files = {f"{name}.jsonl": "".join(f"{json.dumps(row)}\n" for row in split) for name, split in rows.items()}
    examples = {"duplicates": {"contradicting_examples": {UTTERANCE: ["a", "b"]}}}
    write(root / "data", "prepare", files | {"summary.json": {"counts": SPLIT_SIZES} | examples})
    evaluation = {"accuracy": 0.9, "accuracy_interval": [0.8, 0.95], "n": 3, "parameters": 100}
    for role in ("teacher", "student"):
        write(root / role, role, {"evaluation.json": evaluation})
    for name in ("none", "pruned"):
        params = {"compression": {"kind": name, "heads_fraction": 0.5}}
        write(root / "compressed" / name, "compress", {"profile.json": {}}, params)
        write(root / "reference" / name, "reference", {"summary.json": {"compression": name}})
    for pair in ("none-coreml-metal", "none-onnx-cpu", "pruned-onnx-cpu"):
        write(root / "converted" / pair, "convert", {"model.bin": pair})
    for key in VARIANTS:
        write_variant(root, key)
    artifact.write_json(root / "host.json", host_fingerprint())
    artifact.write_json(root / "verdicts.json", {"variants": {key: verdict_of(key) for key in VARIANTS}})
    write(root / "report", "report", {"index.html": "<html></html>", "agreement.json": PAIRS})
    artifact.write_json(workspace / "params.yaml", PARAMS)  # JSON is YAML
    return root


@pytest.fixture
def build(tmp_path):
    """A finished build."""
    return make(tmp_path)


def collect(build):
    return record.collect(build, build / "verdicts.json", build / "report", build.parent / "params.yaml", PARAMS)


def variant(build, key):
    return next(found for found in collect(build).variants if found.key == key)


# The record: files in, values out.


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


def test_an_interpreted_artifact_is_loud_about_it(build):
    found = variant(build, "coreml-metal-fp16")
    assert wording.run_name(found) == "coreml-metal-fp16 (pass, interpreted)"
    assert "NOT RUN BY CORE ML" in wording.headline(found)
    assert "No latency: Core ML runs on macOS only." in wording.measured(found)


def test_uncommitted_changes_are_written_beside_the_revision(build, monkeypatch):
    monkeypatch.setattr(record, "git_state", lambda: {"rev": "f" * 40, "dirty": "true"})
    assert "uncommitted changes" in wording.describe_build(collect(build), dict.fromkeys(VARIANTS, "link"), "")


# The place: what MLflow's variables choose.


def test_the_default_place_is_a_database_in_mlruns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chosen = place.choose({})
    assert chosen.database == tmp_path / "mlruns" / "mlflow.db"
    assert chosen.artifacts == (tmp_path / "mlruns" / "artifacts").as_uri()


def test_mlflows_variables_choose_database_and_experiment(tmp_path):
    uri = f"sqlite:///{tmp_path}/other.db"
    chosen = place.choose({"MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_NAME": "banking"})
    assert chosen == place.Place("banking", tmp_path / "other.db")


def test_a_server_keeps_its_own_artifacts_and_no_lock():
    chosen = place.choose({"MLFLOW_TRACKING_URI": "https://user:pass@mlflow.example/x"})
    assert chosen.database is None
    assert chosen.artifacts is None


@pytest.mark.parametrize("uri", ["mlruns", "ftp://x/y", "http//typo", "sqlite://", "sqlite:///", "file:///tmp/x"])
def test_a_malformed_uri_is_refused_before_mlflow_is_imported(uri):
    with pytest.raises(TrackingRefused, match=r"cannot track in '.*'.*MLFLOW_TRACKING_URI"):
        place.choose({"MLFLOW_TRACKING_URI": uri})


def test_an_error_shows_no_password():
    text = str(TrackingRefused("https://user:hunter2@host/x", "GET https://user:hunter2@host/x failed\nat line 3"))
    assert "hunter2" not in text
    assert "host/x" in text
    assert "line 3" not in text


def test_a_file_that_is_no_database_is_refused_at_once(tmp_path):
    (tmp_path / "mlflow.db").write_text("no database " * 100, encoding="utf-8")
    where = place.choose({"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"})
    with pytest.raises(TrackingRefused, match="file is not a database"), place.opened(where):
        pass


def test_a_database_is_held_by_one_process_at_a_time(tmp_path):
    where = place.choose({"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"})
    program = "import fcntl, sys; stream = open(sys.argv[1], 'w'); fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)"
    command = [sys.executable, "-c", program, str(tmp_path / "mlflow.db.lock")]
    with place.opened(where):
        assert "BlockingIOError" in subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert subprocess.run(command, check=False).returncode == 0


# MLflow itself, on a temporary database.


PROGRAM = (
    "import sys; from stages.track import main; code = main(sys.argv[1:]); "
    "print('heavy' if 'mlflow' in sys.modules else 'light'); sys.exit(code)"
)
ARGUMENTS = ["--build", "build", "--verdicts", "build/verdicts.json", "--report", "build/report"]
ARGUMENTS += ["--tracked", "build/tracked.json"]


def start(build, **environment):
    """Start the stage as a process, as `dvc repro` does; its last line says if MLflow was imported."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *ARGUMENTS],
        cwd=build.parent,
        env=inherited | {"PYTHONPATH": str(REPOSITORY), "FAKE_TOKEN": SECRET} | environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def here(build, database="mlruns/mlflow.db"):
    """Publish in this process: MLflow is imported once for all tests."""
    where = place.choose({"MLFLOW_TRACKING_URI": f"sqlite:///{build.parent / database}"})
    with place.opened(where):
        return store.publish(where, collect(build))


def ask(build, query, database="mlruns/mlflow.db"):
    with sqlite3.connect(build.parent / database) as connection:
        return [row if len(row) > 1 else row[0] for row in connection.execute(query)]


def counts(build, database="mlruns/mlflow.db"):
    live = "WHERE lifecycle_stage = 'active'"
    queries = {
        "aliases": "SELECT count(*) FROM registered_model_aliases",
        "models": f"SELECT count(*) FROM logged_models {live}",
        "runs": f"SELECT count(*) FROM runs {live} AND status = 'FINISHED'",
        "unfinished": f"SELECT count(*) FROM runs {live} AND status != 'FINISHED'",
        "versions": "SELECT count(*) FROM model_versions WHERE current_stage != 'Deleted_Internal'",
    }
    return {name: ask(build, query, database)[0] for name, query in queries.items()}


ONCE = {"aliases": 2, "models": 4, "runs": 5, "unfinished": 0, "versions": 2}


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """MLflow's tables, created once: its migrations cost 4 s of CPU."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    import mlflow

    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def tracked(build, empty_database):
    """The build, published once."""
    return publish_first(build, empty_database)


def publish_first(build, empty_database):
    (build.parent / "mlruns").mkdir()
    shutil.copy2(empty_database, build.parent / "mlruns" / "mlflow.db")
    assert here(build) == ["build", *VARIANTS]
    return build


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
