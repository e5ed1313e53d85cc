"""What MLflow serves is held to what it was told: a rewritten field, file or page of its database is named."""

import sqlite3
from pathlib import Path

import pytest

from stages import audit
from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.lineage import findings, recorded
from stages.tracking import place
from stages.tracking import tracked as readback
from tests.toys.audited_build import KEY, flip

TAGS = {"fingerprint": "f" * 64, "verdict": "pass", "rev": "abc"}


@pytest.fixture(scope="module")
def tracked(template, tmp_path_factory):
    """A database with one run, its model and a registered version, as `track` leaves them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")  # no page read before a change is answered from
        root = tmp_path_factory.mktemp("tracked")
        uri = f"sqlite:///{root / 'mlflow.db'}"
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.chdir(root)
        import mlflow

        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)  # another test of this process may have named a server
        client = mlflow.MlflowClient(uri, registry_uri=uri)
        experiment = client.create_experiment("tinsmith", artifact_location=(root / "artifacts").as_uri())
        made = template["workspace"] / "build/artifact" / KEY
        tags = {**TAGS, "artifact": artifact.digest(made)[:12]}
        run = client.create_run(experiment, run_name=f"{KEY} (pass)", tags=tags).info.run_id
        client.log_param(run, "precision", "fp32")
        client.log_metric(run, "quality/accuracy", 0.9)
        model = client.create_logged_model(experiment, name=KEY, source_run_id=run, tags=tags).model_id
        client.log_model_artifacts(model, str(made))
        client.finalize_logged_model(model, "READY")
        client.create_registered_model("tinsmith.toy")
        client.create_model_version("tinsmith.toy", source=f"models:/{model}", run_id=run, model_id=model)
        client.set_registered_model_alias("tinsmith.toy", "candidate", "1")
        client.set_terminated(run)
        where = place.choose({"MLFLOW_TRACKING_URI": uri})
        record = readback.take(root / "build", where, "f" * 64, [TAGS["fingerprint"]], ["build"])
        artifact.write_json(root / "build/tracked.json", record)
        yield root, run, model


@pytest.fixture(autouse=True)
def untouched(tracked, monkeypatch):
    """Every test finds the database as it was."""
    monkeypatch.chdir(tracked[0])
    database = tracked[0] / "mlflow.db"
    before = database.read_bytes()
    yield
    database.write_bytes(before)


def execute(statement, *values):
    with sqlite3.connect("mlflow.db") as connection:
        connection.execute(statement, values)


def compared():
    (link,) = recorded.compare_build(Path("build"))
    return link, " ".join(map(str, findings.findings(link)))


def test_an_untouched_record_agrees(tracked):
    link, wrong = compared()
    assert wrong == ""
    assert "its database is, byte for byte, the one that tracking left" in link.notes


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE tags SET value = 'fail' WHERE key = 'verdict'", "tags: verdict: expected pass, found fail"),
        ("UPDATE params SET value = 'fp16'", "params: precision: expected fp32, found fp16"),
        ("UPDATE latest_metrics SET value = 0.99", "metrics: quality/accuracy: expected 0.9, found 0.99"),
        ("UPDATE logged_model_tags SET tag_value = 'x' WHERE tag_key = 'rev'", "tags: rev: expected abc, found x"),
        ("UPDATE model_versions SET source = 'models:/m-0'", "source: expected models:/m-"),
        ("DELETE FROM model_versions", "source: expected models:/m-"),
        ("UPDATE runs SET name = 'another'", "run_name: expected onnx-cpu-fp32 (pass), found nothing"),
    ],
)
def test_a_rewritten_field_is_named_with_both_values(tracked, statement, named):
    execute(statement)
    assert named in compared()[1]


def test_a_file_in_mlflows_store_that_changed_is_named(tracked):
    path = next(tracked[0].rglob("artifacts/**/model.onnx"))
    flip(path)
    assert "file model.onnx: expected" in compared()[1]
    flip(path)


def test_a_damaged_page_of_the_database_is_named(tracked):
    content = Path("mlflow.db").read_bytes()
    flip(Path("mlflow.db"), content.index(b"quality/accuracy") - 3, 7)
    assert f"{tracked[0] / 'mlflow.db'}" in compared()[1] or "quality/accuracy" in compared()[1]
    Path("mlflow.db").write_bytes(b"no database" * 100)
    assert "mlflow.db: expected" in compared()[1]


def test_later_writes_are_noted_and_are_no_finding(tracked):
    execute("INSERT INTO experiments (name, lifecycle_stage) VALUES ('another', 'active')")
    link, wrong = compared()
    assert wrong == ""
    assert any("has been written since" in note and "sha256 was" in note for note in link.notes)


def test_a_lost_database_is_a_link_that_cannot_be_followed(tracked):
    content = Path("mlflow.db").read_bytes()
    Path("mlflow.db").unlink()
    link, wrong = compared()
    Path("mlflow.db").write_bytes(content)
    assert wrong == ""
    assert "is gone; `dvc repro` fills it again" in link.unfollowed[0]


@pytest.mark.parametrize(
    "form", ["models:/tinsmith.toy/1", "models:/tinsmith.toy@candidate", "models:/{2}", "runs:/{1}"]
)
def test_a_model_is_audited_by_every_uri_mlflow_has_for_it(tracked, form):
    root = audit.audit(form.format(*tracked), None, offline=True, again=False)
    assert findings.findings(root) == []
    assert root.directory is not None
    assert root.below[0].notes[0].startswith("verdict pass")


def test_a_served_model_that_is_not_the_recorded_one_is_named(tracked):
    execute("UPDATE logged_model_tags SET tag_value = '000000000000' WHERE tag_key = 'artifact'")
    root = audit.audit(f"models:/{tracked[2]}", None, offline=True, again=False)
    assert "tag artifact" in " ".join(map(str, findings.findings(root)))
    path = next(tracked[0].rglob("artifacts/**/model.onnx"))
    flip(path)
    root = audit.audit(f"models:/{tracked[2]}", None, offline=True, again=False)
    flip(path)
    assert "model.onnx: expected" in " ".join(map(str, findings.findings(root)))


def test_a_model_that_is_not_there_is_one_line(tracked):
    with pytest.raises(ArtifactError, match="cannot fetch 'models:/nothing/1' from"):
        audit.audit("models:/nothing/1", None, offline=True, again=False)
