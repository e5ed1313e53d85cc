"""A place that cannot be used is one line, with the advice that fits; nothing of it stops a release that may wait."""

import json
import shutil
import sqlite3
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from test_promote import bundle

from stages import promote, track
from stages.core import artifact
from stages.lineage import recorded
from stages.tracking import place
from stages.tracking.errors import ADVICE, CORRECT, TrackingRefused
from tests.toys.tracked_build import ARGUMENTS, counts, write_variant

DOWN = "http://user:hunter2@127.0.0.1:9"
PROMOTE = ["--release", "build/release", "--promoted", "build/promoted.json"]


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("(sqlite3.OperationalError) database or disk is full\n[SQL: …]", "make room"),
        ("(sqlite3.OperationalError) database is locked", "end what holds it"),
        ("attempt to write a readonly database", "make the file and its directory writable"),
        ("Permission denied", "make the file and its directory writable"),
        ("Detected out-of-date database schema (found version a, but expected b)", "mlflow db upgrade"),
        ("Can't locate revision identified by 'abc'", "mlflow db upgrade"),
        ("database disk image is malformed", "move the damaged file away"),
        ("API request to endpoint /api failed with error code 401 != 200.", "MLFLOW_TRACKING_USERNAME"),
        ("API request to endpoint /api failed with error code 403 != 200.", "ask its owner"),
        ("API request to endpoint /api failed with error code 404 != 200.", "MLflow 3"),
        ("API request to endpoint /api failed with error code 500 != 200.", "the server's own log"),
        ("Max retries exceeded with url: /api/2.0/mlflow", CORRECT),
    ],
)
def test_the_advice_fits_the_reason(reason, advice):
    said = str(TrackingRefused("https://mlflow.example", reason))
    assert f"next: {advice}" in said or advice in said.partition("next: ")[2]
    assert "OperationalError" not in said
    assert "TINSMITH_TRACKING=later" in said
    assert sum(text in said for text in (*ADVICE.values(), CORRECT)) == 1


@contextmanager
def running(build, monkeypatch, **environment):
    with monkeypatch.context() as patch:
        patch.chdir(build.parent)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for name, value in ({"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"} | environment).items():
            patch.setenv(name, value)
        yield patch


def one_line(capsys):
    """What the stage itself says; MLflow's own logger, which a process sends to a file, writes before it here."""
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("error: cannot track in '")
    assert not [line for line in said[:-1] if line.startswith("error: ")]
    return said[-1]


@pytest.fixture
def ready(build, empty_database):
    """A build beside an empty database."""
    (build.parent / "mlruns").mkdir()
    shutil.copy2(empty_database, build.parent / "mlruns/mlflow.db")
    return build


@contextmanager
def each_connection(pragma):
    """Give every connection of MLflow's a pragma, which may change meanwhile."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def limit(connection, _):
        if isinstance(connection, sqlite3.Connection):
            connection.execute(f"PRAGMA {pragma['is']}")

    event.listen(Engine, "connect", limit)
    try:
        yield
    finally:
        event.remove(Engine, "connect", limit)


@pytest.mark.target
@pytest.mark.parametrize(
    ("limited", "said"),
    [
        ("max_page_count = {}", "database or disk is full; next: make room where it lies"),
        ("query_only = 1", "attempt to write a readonly database; next: make the file and its directory writable"),
    ],
)
def test_a_database_that_takes_no_more_is_one_line_and_is_filled_later(ready, monkeypatch, capsys, limited, said):
    pages = (ready.parent / "mlruns/mlflow.db").stat().st_size // 4096 + 2
    pragma = {"is": limited.format(pages)}
    with each_connection(pragma), running(ready, monkeypatch, MLFLOW_SQLALCHEMYSTORE_POOLCLASS="NullPool"):
        assert track.main(ARGUMENTS) == 1
        assert said in one_line(capsys)
        assert not (ready / "tracked.json").exists()
        pragma["is"] = "max_page_count = 1000000"
        assert track.main(ARGUMENTS) == 0
    assert counts(ready)["runs"] == 5
    assert counts(ready)["unfinished"] == 0


@pytest.mark.target
def test_an_experiment_that_was_deleted_in_the_ui_is_named_with_the_way_to_restore_it(tracked, monkeypatch, capsys):
    import mlflow

    client = mlflow.MlflowClient(place.Place("tinsmith", tracked.parent / "mlruns/mlflow.db").uri)
    client.delete_experiment("1")
    with running(tracked, monkeypatch):
        assert track.main(ARGUMENTS) == 1
        said = one_line(capsys)
        assert "its experiment 'tinsmith' was deleted; next: restore it (`mlflow experiments restore" in said
        client.restore_experiment("1")
        assert track.main(ARGUMENTS) == 0
    assert capsys.readouterr().out.startswith("MLflow has this build")


@pytest.mark.target
@pytest.mark.parametrize("name", ["it's", 'say "yes"', "team/a:b%c\\d `e` größe"])
def test_an_experiment_of_any_name_is_tracked_and_promoted(ready, monkeypatch, capsys, name):
    artifact.write_json(ready.parent / "params.yaml", artifact.read_json(ready.parent / "params.yaml") | OPTIONAL)
    bundle(ready, "onnx-cpu-fp32")
    with running(ready, monkeypatch, MLFLOW_EXPERIMENT_NAME=name):
        assert track.main(ARGUMENTS) == 0
        assert promote.main(PROMOTE) == 0
        assert "released onnx-cpu-fp32" in capsys.readouterr().out
        assert track.main(ARGUMENTS) == 0
        assert capsys.readouterr().out.startswith("MLflow has this build")
        (link,) = recorded.compare_build(build_of(ready))
        assert (link.findings, link.unfollowed) == ([], [])


@pytest.mark.target
def test_a_database_that_another_program_holds_is_one_line(tracked, monkeypatch, capsys):
    monkeypatch.setattr(place, "BUSY_S", 0.1)
    write_variant(tracked, "onnx-cpu-fp32", "other bytes")
    holder = sqlite3.connect(tracked.parent / "mlruns/mlflow.db")
    holder.execute("BEGIN EXCLUSIVE")
    with running(tracked, monkeypatch):
        assert track.main(ARGUMENTS) == 1
    holder.close()
    assert "database is locked; next: end what holds it" in one_line(capsys)


@contextmanager
def server(status, body):
    """A server that answers every request alike."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}"
    finally:
        listening.shutdown()


@pytest.mark.target
@pytest.mark.parametrize(
    ("status", "body", "advice"),
    [
        (401, "You are not authenticated.", "set MLFLOW_TRACKING_USERNAME"),
        (403, "Permission denied", "ask its owner for the right to write"),
        (404, "Not found", "name the root of an MLflow 3 server"),
        (200, "an HTML page of another service", CORRECT),
        (200, {}, "name the root of an MLflow server"),
    ],
)
def test_what_a_server_says_is_one_line(build, monkeypatch, capsys, status, body, advice):
    with server(status, body) as uri, running(build, monkeypatch, MLFLOW_TRACKING_URI=uri):
        assert track.main(ARGUMENTS) == 1
    assert advice in one_line(capsys)


OPTIONAL = {
    "clients": {
        "utterances": 1,
        "required": ["optimum"],
        "before_release": False,
        "exact": {"top1_agreement": 1.0, "probability_difference": 0.001},
        "quantized": {"top1_agreement": 1.0, "probability_difference": 0.001},
    }
}


def build_of(build):
    return build.relative_to(build.parent)


@pytest.mark.target
def test_a_release_may_go_on_while_the_server_is_down_and_is_tracked_later(ready, monkeypatch, capsys):
    artifact.write_json(ready.parent / "params.yaml", artifact.read_json(ready.parent / "params.yaml") | OPTIONAL)
    bundle(ready, "onnx-cpu-fp32")
    with running(ready, monkeypatch, MLFLOW_TRACKING_URI=DOWN, TINSMITH_TRACKING="later") as patch:
        assert track.main(ARGUMENTS) == 0
        assert promote.main(PROMOTE) == 0
        said = capsys.readouterr().err.splitlines()
        assert said[0].startswith("warning: not tracked yet: cannot track in 'http://127.0.0.1:9'")
        assert said[1].startswith("warning: `released` is not moved yet: cannot track in")
        assert "hunter2" not in (ready / "tracked.json").read_text(encoding="utf-8")
        (link,) = recorded.compare_build(build_of(ready))
        assert link.verdict == "not followed"
        assert link.unfollowed[0].startswith("not tracked yet: ")

        patch.delenv("TINSMITH_TRACKING")
        assert track.main(ARGUMENTS) == 1
        assert promote.main(PROMOTE) == 1

        patch.delenv("MLFLOW_TRACKING_URI")
        assert track.main(ARGUMENTS) == 0
        assert promote.main(PROMOTE) == 0
        assert capsys.readouterr().out.endswith("MLflow: released onnx-cpu-fp32\n")
        (link,) = recorded.compare_build(build_of(ready))
        assert (link.verdict, link.unfollowed) == ("agrees", [])


@pytest.mark.target
def test_a_build_that_was_tracked_before_the_server_went_down_keeps_its_record(tracked, monkeypatch):
    with running(tracked, monkeypatch) as patch:
        assert track.main(ARGUMENTS) == 0
        before = artifact.read_json(tracked / "tracked.json")
        patch.setattr(place, "BUSY_S", 0.1)
        patch.setenv("TINSMITH_TRACKING", "later")
        (tracked.parent / "mlruns/mlflow.db").write_bytes(b"no database" * 100)
        assert track.main(ARGUMENTS) == 0
        assert artifact.read_json(tracked / "tracked.json") == before
