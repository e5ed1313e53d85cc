"""A build is tracked beside the workspace that it belongs to, whatever that is called and wherever it went."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from stages import track
from stages.core import artifact
from stages.core.errors import ConfigError
from stages.lineage import recorded
from stages.lineage.findings import findings
from stages.tracking import place
from stages.tracking.errors import TrackingRefused
from tests.toys.tracked_build import ARGUMENTS, REPOSITORY, VARIANTS, make, write_variant

TEMPORARY = ".dvc/tmp/exps/standalone/tmpabc"
AWKWARD = "a#b?c=%2Fd é"


def run(workspace, monkeypatch, **environment):
    """Run the stage in a workspace."""
    with monkeypatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(name, raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.chdir(workspace)
        code = track.main(ARGUMENTS)
    return code, artifact.read_json(workspace / "build/tracked.json") if code == 0 else None


def audited(workspace, monkeypatch):
    with monkeypatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(workspace)
        (link,) = recorded.compare_build(Path("build"))
    return link, [str(finding) for finding in findings(link)]


@pytest.fixture
def workspace(tmp_path, empty_database):
    """A workspace with a build and an empty database."""
    home = tmp_path / "first"
    home.mkdir()
    return fill(home, empty_database)


def fill(home, database):
    make(home)
    (home / "mlruns").mkdir()
    shutil.copy2(database, home / "mlruns/mlflow.db")
    return home


def files(workspace):
    return {path.relative_to(workspace): path.stat().st_mtime_ns for path in (workspace / "mlruns").rglob("*")}


# What the variables choose.


@pytest.mark.parametrize("directory", ["", "nested/project"])
@pytest.mark.parametrize("kind", ["standalone/tmpabc", "tmpabc"])
def test_a_temporary_experiment_is_tracked_in_the_repository_it_belongs_to(tmp_path, directory, kind):
    here = tmp_path / directory / ".dvc/tmp/exps" / kind / directory
    here.mkdir(parents=True)
    home = tmp_path / directory
    for variables in ({}, {"MLFLOW_TRACKING_URI": "sqlite:///mlruns/mlflow.db"}):
        chosen = place.choose({**variables, "DVC_EXP_NAME": "plush-fret"}, here)
        assert chosen.database == home / "mlruns/mlflow.db"
        assert chosen.job == "experiment plush-fret"
    assert place.choose({}, home).job == ""


def test_a_job_of_a_sweep_is_none_of_the_workspaces_builds(tmp_path):
    assert place.choose({"TINSMITH_SWEEP": "mine"}, tmp_path).job == "sweep mine"


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+pysqlite"])
@pytest.mark.parametrize("name", ["plain", "a b", "a#b", "a?b", "a%2Fb", "a%b", "größe", "a:b@c"])
def test_every_path_is_named_by_the_uri_that_sqlalchemy_writes_for_it(tmp_path, scheme, name):
    from sqlalchemy.engine import URL

    path = tmp_path / name / "mlflow.db"
    uri = URL.create(scheme, database=str(path)).render_as_string()
    assert place.choose({"MLFLOW_TRACKING_URI": uri}).database == path
    assert place.choose({"MLFLOW_TRACKING_URI": place.Place("x", path).uri}).database == path


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("sqlite:///a?b/mlflow.db", "options after a file's path are not understood; next: write %3F"),
        ("sqlite:///file:a.db?mode=ro&uri=true", "options after a file's path are not understood"),
        ("sqlite:///:memory:", "it names no file"),
        ("sqlite://host/a.db", "it names no file"),
    ],
)
def test_a_sqlite_uri_that_means_something_else_than_a_file_is_refused(uri, said):
    with pytest.raises(TrackingRefused, match=said):
        place.choose({"MLFLOW_TRACKING_URI": uri})


def test_only_a_clear_word_lets_a_release_go_on_untracked():
    assert [place.may_wait(each) for each in ({}, {"TINSMITH_TRACKING": "required"})] == [False, False]
    assert place.may_wait({"TINSMITH_TRACKING": "later"})
    with pytest.raises(ConfigError, match=r"TINSMITH_TRACKING='yes' says nothing; expected later or required"):
        place.may_wait({"TINSMITH_TRACKING": "yes"})


# Where MLflow puts it.


@pytest.mark.target
def test_a_workspace_of_any_name_is_tracked_inside_itself_and_audited(tmp_path, monkeypatch, empty_database):
    workspace = tmp_path / AWKWARD
    workspace.mkdir()
    fill(workspace, empty_database)
    assert run(workspace, monkeypatch)[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == [AWKWARD]
    assert len(list(workspace.glob("mlruns/artifacts/**/model.bin"))) == len(VARIANTS)
    link, wrong = audited(workspace, monkeypatch)
    assert (wrong, link.unfollowed) == ([], [])
    assert any("byte for byte" in note for note in link.notes)


@pytest.mark.target
def test_a_moved_workspace_keeps_every_field_of_its_record_and_writes_nothing_twice(workspace, tmp_path, monkeypatch):
    before = run(workspace, monkeypatch)[1]
    there = workspace.rename(tmp_path / "second")
    link, wrong = audited(there, monkeypatch)
    assert wrong == []
    assert "its files are recorded in" in link.unfollowed[0]
    after = run(there, monkeypatch)[1]
    assert after["fields"] == before["fields"]
    assert after["files"].keys() == before["files"].keys()
    link, wrong = audited(there, monkeypatch)
    assert (wrong, link.unfollowed) == ([], [])
    assert not workspace.exists()


@pytest.mark.target
@pytest.mark.parametrize("with_files", [True, False])
def test_a_copied_workspace_writes_into_its_own_store(workspace, tmp_path, monkeypatch, with_files):
    run(workspace, monkeypatch)
    there = tmp_path / "second"
    shutil.copytree(workspace, there)
    if not with_files:
        shutil.rmtree(there / "mlruns/artifacts")
    before = files(workspace)
    write_variant(there / "build", "onnx-cpu-fp32", "other bytes")
    assert run(there, monkeypatch)[0] == 0
    assert files(workspace) == before
    assert len(list(there.glob("mlruns/artifacts/**/model.bin"))) == len(VARIANTS) + with_files
    for each in (workspace, there):
        link, wrong = audited(each, monkeypatch)
        assert (wrong, link.unfollowed) == ([], [])


@pytest.mark.target
def test_a_database_whose_files_are_lost_with_their_workspace_says_where_they_should_lie(
    workspace,
    tmp_path,
    monkeypatch,
    capsys,
):
    run(workspace, monkeypatch)
    there = workspace.rename(tmp_path / "second")
    shutil.rmtree(there / "mlruns/artifacts")
    assert run(there, monkeypatch)[0] == 1
    said = capsys.readouterr().err
    assert f"are recorded in '{workspace / 'mlruns/artifacts'}', where nothing lies; next: bring them back" in said
    assert said.count("\n") == 1


@pytest.mark.target
def test_an_experiment_whose_files_were_put_elsewhere_on_purpose_stays_there(workspace, tmp_path, monkeypatch):
    import mlflow

    where = place.Place("tinsmith", workspace / "mlruns/mlflow.db")
    elsewhere = tmp_path / "large disk"
    mlflow.MlflowClient(where.uri).create_experiment("tinsmith", artifact_location=elsewhere.as_uri())
    assert run(workspace, monkeypatch)[0] == 0
    assert len(list(elsewhere.rglob("model.bin"))) == len(VARIANTS)
    assert audited(workspace, monkeypatch)[1] == []


@pytest.mark.target
def test_the_record_of_a_tampered_database_is_not_taken_for_the_truth_when_the_first_is_gone(workspace, monkeypatch):
    run(workspace, monkeypatch)
    (workspace / "build/tracked.json").unlink()
    with sqlite3.connect(workspace / "mlruns/mlflow.db") as connection:
        connection.execute("UPDATE tags SET value = 'pass' WHERE key = 'verdict'")
        connection.execute("UPDATE latest_metrics SET value = 0.99 WHERE key = 'quality/accuracy'")
    link, wrong = audited(workspace, monkeypatch)
    assert any("tag verdict: expected fail, found pass" in finding for finding in wrong)
    assert any("metric quality/accuracy: expected 0.5, found 0.99" in finding for finding in wrong)
    assert "is missing" in link.unfollowed[0]
    run(workspace, monkeypatch)
    link, wrong = audited(workspace, monkeypatch)
    assert wrong == []
    assert not any("byte for byte" in note for note in link.notes)
    with sqlite3.connect(workspace / "mlruns/mlflow.db") as connection:
        query = (
            "SELECT r.name, t.value FROM runs r JOIN tags t USING (run_uuid) WHERE t.key = 'verdict' "
            "AND run_uuid NOT IN (SELECT run_uuid FROM tags WHERE key = 'superseded')"
        )
        verdicts = dict(connection.execute(query))
    assert verdicts["onnx-cpu-int8 (fail)"] == "fail"


@pytest.mark.target
def test_a_revision_that_was_rewritten_stays_a_finding_though_the_record_is_taken_again(workspace, monkeypatch):
    run(workspace, monkeypatch)
    with sqlite3.connect(workspace / "mlruns/mlflow.db") as connection:
        for key, value in (("rev", "f" * 12), ("mlflow.source.git.commit", "f" * 40)):
            connection.execute("UPDATE tags SET value = ? WHERE key = ?", (value, key))
            connection.execute("UPDATE logged_model_tags SET tag_value = ? WHERE tag_key = ?", (value, key))
    run(workspace, monkeypatch)
    assert any("tags: rev: expected" in finding for finding in audited(workspace, monkeypatch)[1])


@pytest.mark.target
def test_a_record_edited_together_with_its_database_is_held_to_the_build(workspace, monkeypatch):
    run(workspace, monkeypatch)
    with sqlite3.connect(workspace / "mlruns/mlflow.db") as connection:
        connection.execute("UPDATE tags SET value = 'pass' WHERE key = 'verdict' AND value = 'fail'")
    path = workspace / "build/tracked.json"
    record = artifact.read_json(path)
    record["fields"] = {
        name: "pass" if name.endswith("tags: verdict") else value for name, value in record["fields"].items()
    }
    record["database"]["sha256"] = artifact.sha256(workspace / "mlruns/mlflow.db")
    artifact.write_json(path, record)
    assert any("tag verdict: expected fail" in finding for finding in audited(workspace, monkeypatch)[1])


@pytest.mark.target
def test_an_experiments_build_is_tracked_and_registers_nothing_until_it_is_the_workspaces(workspace, monkeypatch):
    assert run(workspace, monkeypatch, TINSMITH_SWEEP="mine")[0] == 0
    with sqlite3.connect(workspace / "mlruns/mlflow.db") as connection:
        assert connection.execute("SELECT count(*) FROM runs WHERE status = 'FINISHED'").fetchone() == (5,)
        assert connection.execute("SELECT count(*) FROM registered_models").fetchone() == (0,)
        assert connection.execute("SELECT DISTINCT value FROM tags WHERE key = 'job'").fetchall() == [("sweep mine",)]
    (workspace / "build/tracked.json").unlink()
    assert run(workspace, monkeypatch)[0] == 0
    with sqlite3.connect(workspace / "mlruns/mlflow.db") as connection:
        assert connection.execute("SELECT count(*) FROM runs WHERE status = 'FINISHED'").fetchone() == (5,)
        assert connection.execute("SELECT count(*) FROM registered_model_aliases").fetchone() == (2,)
    candidate = "SELECT * FROM registered_model_aliases ORDER BY name"
    with sqlite3.connect(workspace / "mlruns/mlflow.db") as connection:
        before = connection.execute(candidate).fetchall()
    write_variant(workspace / "build", "onnx-cpu-fp32", "other bytes")
    assert run(workspace, monkeypatch, TINSMITH_SWEEP="mine")[0] == 0
    with sqlite3.connect(workspace / "mlruns/mlflow.db") as connection:
        assert connection.execute(candidate).fetchall() == before


@pytest.mark.target
def test_a_kill_while_mlflow_makes_its_tables_leaves_nothing_that_the_next_run_stumbles_over(build, monkeypatch):
    import mlflow

    database = build.parent / "mlruns/mlflow.db"

    def killed(_):
        (fresh,) = database.parent.glob(".mlflow.db.*.new")
        fresh.write_bytes(fresh.read_bytes()[:8192])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "search_experiments", killed)
        with pytest.raises(KeyboardInterrupt):
            run(build.parent, monkeypatch)
    assert not database.exists()
    assert run(build.parent, monkeypatch)[0] == 0
    assert {path.name for path in database.parent.iterdir()} == {"artifacts", "mlflow.db", "mlflow.db.lock"}


@pytest.mark.target
def test_dvc_itself_runs_a_temporary_experiment_where_we_look_for_one(tmp_path):
    """`dvc exp run --temp` in a project of one stage, which says where it would be tracked."""
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  say:\n    cmd: python say.py > said\n    deps: [say.py]\n    params: [x]\n    outs: [said]\n",
        encoding="utf-8",
    )
    (tmp_path / "params.yaml").write_text("x: 1\n", encoding="utf-8")
    (tmp_path / "say.py").write_text(
        "import os; from stages.tracking import place; w = place.choose(os.environ); print(w.database, w.job)\n",
        encoding="utf-8",
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment |= {"PYTHONPATH": str(REPOSITORY), "DVC_NO_ANALYTICS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    dvc = [sys.executable, "-m", "dvc"]
    for command in (
        ["git", "init", "-q"],
        [*dvc, "init", "-q"],
        ["git", "add", "-A"],
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first"],
        [*dvc, "exp", "run", "-q", "--temp", "--name", "plush-fret", "-S", "x=2"],
        [*dvc, "exp", "apply", "-q", "plush-fret"],
    ):
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    said = (tmp_path / "said").read_text(encoding="utf-8")
    assert said == f"{tmp_path / 'mlruns/mlflow.db'} experiment plush-fret\n"
