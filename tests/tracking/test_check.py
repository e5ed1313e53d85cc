"""Whatever MLflow has otherwise than the build would write it is named, and put right or written again beside it."""

import shutil
import sqlite3

import pytest

from stages.tracking import check, place, store
from stages.tracking.errors import TrackingRefused
from tests.toys.tracked_build import VARIANTS, ask, collect, counts, here, make, publish_first

pytestmark = pytest.mark.target
KEY = "onnx-cpu-fp32"
MODEL = f"tinsmith.{KEY}"
OF_RUN = f"run_uuid = (SELECT run_uuid FROM runs WHERE name LIKE '{KEY} %' AND lifecycle_stage = 'active' LIMIT 1)"
OF_MODEL = (
    "model_id = (SELECT model_id FROM logged_models m JOIN runs r ON m.source_run_id = r.run_uuid "
    f"WHERE m.name = '{KEY}' AND r.lifecycle_stage = 'active' AND r.run_uuid NOT IN "
    "(SELECT run_uuid FROM tags WHERE key = 'superseded') LIMIT 1)"
)


@pytest.fixture(scope="module")
def tracked(empty_database, tmp_path_factory):
    """A build published once: every test leaves it as the build would write it."""
    return publish_first(make(tmp_path_factory.mktemp("checked")), empty_database)


def where(build):
    return place.choose({"MLFLOW_TRACKING_URI": f"sqlite:///{build.parent}/mlruns/mlflow.db"})


def faults(build):
    return [f"{name}: {fault.what}" for name, fault in store.compare(where(build), collect(build))]


def execute(build, *statements):
    with sqlite3.connect(build.parent / "mlruns/mlflow.db") as connection:
        changed = [connection.execute(statement).rowcount for statement in statements]
    assert any(changed), statements


def identities(build):
    return set(ask(build, "SELECT run_uuid FROM runs"))


def current(build):
    """The run of a variant that stands for it now."""
    found = ask(build, f"SELECT run_uuid FROM runs WHERE {OF_RUN}")
    superseded = ask(build, "SELECT run_uuid FROM tags WHERE key = 'superseded'")
    runs = ask(build, f"SELECT run_uuid FROM runs WHERE name LIKE '{KEY} %' AND lifecycle_stage = 'active'")
    return next((run for run in runs if run not in superseded), found[0])


def test_what_was_just_written_has_no_fault(tracked):
    assert faults(tracked) == []
    assert here(tracked) == []


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE tags SET value = 'fail' WHERE key = 'verdict' AND {run}", "tag verdict"),
        ("DELETE FROM tags WHERE key = 'artifact' AND {run}", "tag artifact"),
        ("UPDATE tags SET value = 'ffff' WHERE key = 'rev' AND {run}", "tag rev"),
        ("UPDATE tags SET value = '**PASS**' WHERE key = 'mlflow.note.content' AND {run}", "description"),
        ("UPDATE runs SET status = 'FAILED' WHERE {run}", "status"),
        ("UPDATE logged_model_tags SET tag_value = '0' WHERE tag_key = 'artifact' AND {model}", "model: tag artifact"),
        ("UPDATE logged_models SET status = 1 WHERE {model}", "model: status"),
        ("DELETE FROM inputs WHERE source_type = 'RUN_OUTPUT' AND source_id = '{id}'", "link to its model"),
        (
            "UPDATE model_version_tags SET value = 'x' WHERE key = 'teacher' AND name = '{name}'",
            "version 1: tag teacher",
        ),
        ("UPDATE model_versions SET description = 'x' WHERE name = '{name}'", "version 1: description"),
        ("UPDATE registered_models SET description = '' WHERE name = '{name}'", "registered model: description"),
    ],
)
def test_what_mlflow_lets_us_change_is_put_right_where_it_stands(tracked, statement, what):
    before, state = identities(tracked), counts(tracked)
    name = ask(tracked, "SELECT name FROM registered_models WHERE name LIKE '%onnx-cpu-fp32'")[0]
    run = current(tracked)
    execute(tracked, statement.format(run=f"run_uuid = '{run}'", id=run, model=OF_MODEL, name=name))
    assert f"{KEY}: {what}" in faults(tracked)
    assert any(what in written for written in here(tracked))
    assert faults(tracked) == []
    assert (identities(tracked), counts(tracked)) == (before, state)
    assert here(tracked) == []


def test_a_renamed_run_has_its_name_again(tracked):
    run = current(tracked)
    execute(tracked, f"UPDATE runs SET name = 'best' WHERE run_uuid = '{run}'")
    execute(tracked, f"UPDATE tags SET value = 'best' WHERE key = 'mlflow.runName' AND run_uuid = '{run}'")
    assert faults(tracked) == [f"{KEY}: name"]
    assert here(tracked) == [f"{KEY} (name)"]
    assert here(tracked) == []


def store_of(build, pattern):
    """Files in MLflow's store, the last that came there last: MLflow's copies keep the modification time."""
    found = (build.parent / "mlruns/artifacts").rglob(pattern)
    return sorted(found, key=lambda path: path.stat().st_ctime_ns)


@pytest.mark.parametrize("name", ["lineage.json", "model.bin", "manifest.json", "verdicts.json", "index.html"])
@pytest.mark.parametrize("damage", ["removed", "edited"])
def test_a_file_that_is_gone_or_edited_is_stored_again(tracked, name, damage):
    path = store_of(tracked, name)[-1]
    content = path.read_bytes()
    path.unlink()
    if damage == "edited":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert len(faults(tracked)) == 1
    assert f"file {name}" in faults(tracked)[0]
    assert len(here(tracked)) == 1
    assert path.read_bytes() == content
    assert faults(tracked) == []


def test_all_files_lost_are_stored_again(tracked):
    shutil.rmtree(tracked.parent / "mlruns/artifacts")
    before = identities(tracked)
    assert len(here(tracked)) == 1 + len(VARIANTS)
    assert faults(tracked) == []
    assert identities(tracked) == before


def versions(build):
    return set(ask(build, f"SELECT version, run_id, source FROM model_versions WHERE name = '{MODEL}'"))


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE params SET value = 'fp64' WHERE key = 'precision.kind' AND {run}", "parameter precision.kind"),
        ("DELETE FROM params WHERE key = 'precision.kind' AND {run}", "parameter precision.kind"),
        ("UPDATE latest_metrics SET value = 1 WHERE key = 'quality/accuracy' AND {run}", "metric quality/accuracy"),
        ("UPDATE logged_model_params SET param_value = 'x' WHERE param_key = 'target' AND {model}", "model: parameter"),
        ("UPDATE logged_models SET lifecycle_stage = 'deleted' WHERE {model}", "its model"),
        ("UPDATE logged_models SET model_type = 'other' WHERE {model}", "model: type"),
        ("UPDATE datasets SET digest = 'f' WHERE name = 'teacher'", "input teacher"),
        ("UPDATE inputs SET destination_id = 'nothing' WHERE destination_id = '{id}'", "input"),
    ],
)
def test_what_cannot_be_changed_is_written_again_beside_it(tracked, statement, what):
    before, pinned, old = identities(tracked), versions(tracked), current(tracked)
    execute(tracked, statement.format(run=f"run_uuid = '{old}'", model=OF_MODEL, id=old))
    assert any(f"{KEY}: {what}" in fault for fault in faults(tracked))
    (written,) = (said for said in here(tracked) if said.startswith(f"{KEY} "))
    assert what in written
    new = current(tracked)
    assert new in identities(tracked) - before
    assert ask(tracked, f"SELECT value FROM tags WHERE key = 'superseded' AND run_uuid = '{old}'") == [new]
    assert ask(tracked, f"SELECT lifecycle_stage FROM runs WHERE run_uuid = '{old}'") == ["active"]
    assert pinned < versions(tracked)
    assert max(versions(tracked))[1] == new
    assert ask(tracked, f"SELECT version FROM registered_model_aliases WHERE name = '{MODEL}'") == [
        max(versions(tracked))[0]
    ]
    assert faults(tracked) == []
    assert here(tracked) == []


def test_a_file_that_was_added_to_a_model_is_none_of_the_artifacts(tracked):
    added = store_of(tracked, "model.bin")[-1].with_name("extra.bin")
    added.write_text("payload", encoding="utf-8")
    assert any("model: file extra.bin" in fault for fault in faults(tracked))
    assert len(here(tracked)) == 2  # the variant, and the build's links
    assert faults(tracked) == []


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE model_versions SET source = 'models:/m-other' WHERE name = '{MODEL}'",
        f"UPDATE model_versions SET run_id = '{'0' * 32}' WHERE name = '{MODEL}'",
        f"UPDATE model_versions SET current_stage = 'Deleted_Internal' WHERE name = '{MODEL}'",
    ],
)
def test_a_version_that_is_gone_or_points_elsewhere_is_registered_again_from_the_same_run(tracked, statement):
    before = identities(tracked)
    execute(tracked, statement)
    assert faults(tracked) == [f"{KEY}: registered version"]
    assert here(tracked) == [f"{KEY} (registered version)"]
    assert identities(tracked) == before
    assert max(versions(tracked))[1] == current(tracked)
    assert faults(tracked) == []


def test_a_registered_model_that_was_deleted_is_registered_again(tracked):
    import mlflow

    mlflow.MlflowClient(where(tracked).uri).delete_registered_model(MODEL)
    assert f"{KEY}: registered version" in faults(tracked)
    here(tracked)
    assert versions(tracked) == {(1, current(tracked), max(versions(tracked))[2])}
    assert faults(tracked) == []


def test_a_deleted_run_is_written_again_and_restoring_it_changes_nothing(tracked):
    import mlflow

    client, old, before = mlflow.MlflowClient(where(tracked).uri), current(tracked), identities(tracked)
    client.delete_run(old)
    assert f"{KEY}: its run" in faults(tracked)
    assert KEY in here(tracked)
    assert len(identities(tracked) - before) == 1
    client.restore_run(old)
    assert here(tracked) == []
    assert faults(tracked) == []


def test_a_deleted_build_is_written_again_and_its_variants_are_its_children(tracked):
    import mlflow

    client = mlflow.MlflowClient(where(tracked).uri)

    def builds():
        found = client.search_runs(["1"], "tags.kind = 'build'")
        return [run for run in found if check.SUPERSEDED not in run.data.tags]

    (build,) = builds()
    client.delete_run(build.info.run_id)
    assert here(tracked) == ["build"]
    (new,) = builds()
    children = client.search_runs(["1"], f"tags.`mlflow.parentRunId` = '{new.info.run_id}'")
    assert {run.data.tags["variant"] for run in children} == set(VARIANTS)


def test_what_people_add_stays(tracked):
    import mlflow

    client, run = mlflow.MlflowClient(where(tracked).uri), current(tracked)
    note = client.get_run(run).data.tags[check.NOTE]
    client.set_tag(run, "reviewed", "by Ada")
    client.log_text(run, "seen", "remarks.txt")
    client.set_registered_model_alias(MODEL, "champion", str(max(versions(tracked))[0]))
    assert faults(tracked) == []
    assert here(tracked) == []
    client.set_tag(run, check.NOTE, f"{note}\nSeen in the lab.")
    assert here(tracked) == []
    assert client.get_run(run).data.tags[check.NOTE].endswith("Seen in the lab.")
    assert faults(tracked) == []


def test_versions_stay_when_their_experiment_is_renamed_and_a_newer_one_is_added(tracked):
    import mlflow

    client, before = mlflow.MlflowClient(where(tracked).uri), versions(tracked)
    client.rename_experiment("1", "kept")
    assert here(tracked) == ["build", *VARIANTS]
    assert before < versions(tracked)
    client.rename_experiment("2", "other")
    client.rename_experiment("1", "tinsmith")
    assert here(tracked) == []


def test_a_place_that_does_not_keep_what_it_is_told_is_refused_rather_than_written_for_ever(tracked):
    trigger = "CREATE TRIGGER forgets AFTER UPDATE ON tags BEGIN UPDATE tags SET value = 'x' WHERE key = 'verdict'; END"
    with sqlite3.connect(tracked.parent / "mlruns/mlflow.db") as connection:
        connection.execute(trigger)
        connection.execute("UPDATE tags SET value = 'x' WHERE key = 'verdict'")
    with pytest.raises(TrackingRefused, match=r"does not keep what it is told: tag verdict is 'x'"):
        here(tracked)
