"""A tracking server on PostgreSQL that builds share: nothing is written twice, a dead writer holds nobody up."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from stages.tracking import place, store
from stages.tracking.errors import TurnLost
from stages.tracking.turn import Turn, turn
from tests.toys.tracked_build import ONCE, collect, start

pytestmark = pytest.mark.target


def binaries():
    """Where PostgreSQL's programs lie; Debian keeps them off the PATH."""
    found = shutil.which("initdb") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)
    return Path(found).resolve().parent if found else None


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@contextmanager
def running(command, ready, log, **options):
    """Run a server for the length of a block."""
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, **options)
    try:
        for _ in range(600):
            assert process.poll() is None, log.read_text(encoding="utf-8")
            if ready():
                break
            time.sleep(0.2)
        yield
    finally:
        process.send_signal(signal.SIGINT)  # PostgreSQL takes SIGTERM as leave to wait for its clients
        process.wait(timeout=60)


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def database():
    """The URI of an empty PostgreSQL database of our own."""
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    if find_spec("psycopg") is None:
        pytest.skip("the driver is not installed (pip install 'psycopg[binary]', the extra `postgresql`)")
    # PostgreSQL refuses to run as root.
    owner = "postgres" if os.geteuid() == 0 else getpass.getuser()
    options = {"user": owner} if os.geteuid() == 0 else {}
    home, port = Path(tempfile.mkdtemp(prefix="tinsmith-pg-")), free_port()
    try:
        shutil.chown(home, owner)
        initialise = [programs / "initdb", "--auth=trust", f"--username={owner}", f"--pgdata={home / 'data'}"]
        subprocess.run([*initialise, "--no-sync"], check=True, cwd=home, stdout=subprocess.DEVNULL, **options)
        serve = [programs / "postgres", "-D", home / "data", "-k", home, "-h", "127.0.0.1", "-p", str(port), "-F"]
        ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        with running(serve, lambda: subprocess.run(ready).returncode == 0, home / "log", cwd=home, **options):
            yield f"postgresql://{owner}@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(home)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Where that server keeps files."""
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def server(database, stored):
    """The address of an `mlflow server` on that database."""
    uri, artifacts = f"http://127.0.0.1:{free_port()}", stored
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database, "--workers", "1"]
    command += ["--artifacts-destination", str(artifacts), "--host", "127.0.0.1", "--port", uri.rpartition(":")[2]]
    with running(command, lambda: answers(f"{uri}/health"), artifacts / "log"):
        yield uri


def counts(uri):
    import mlflow

    client = mlflow.MlflowClient(uri, registry_uri=uri)
    experiment = client.get_experiment_by_name(place.EXPERIMENT).experiment_id
    statuses = [run.info.status for run in client.search_runs([experiment])]
    return {
        "aliases": sum(len(model.aliases) for model in client.search_registered_models()),
        "models": len(client.search_logged_models([experiment])),
        "runs": statuses.count("FINISHED"),
        "unfinished": len(statuses) - statuses.count("FINISHED"),
        "versions": len(client.search_model_versions()),
    }


def test_two_builds_that_end_together_on_one_server_write_everything_once(build, server):
    both = [start(build, MLFLOW_TRACKING_URI=server) for _ in range(2)]
    said = sorted(process.communicate(timeout=300)[0] for process in both)
    assert said[0].startswith("MLflow has this build")
    assert said[1].startswith("MLflow: wrote build")
    assert counts(server) == ONCE
    where = place.choose({"MLFLOW_TRACKING_URI": server})
    with place.opened(where):
        assert store.publish(where, collect(build), deep=False) == []
    assert store.compare(where, collect(build)) == []


def test_a_file_that_a_server_lost_is_sent_again(build, server, stored):
    where = place.choose({"MLFLOW_TRACKING_URI": server, "MLFLOW_EXPERIMENT_NAME": "lost"})
    with place.opened(where):
        store.publish(where, collect(build))
        lost = max(stored.rglob("model.bin"), key=lambda path: path.stat().st_ctime_ns)
        lost.unlink()
        (written,) = store.publish(where, collect(build), deep=False)
        assert "model: file model.bin" in written
        assert lost.is_file()


def test_a_database_is_written_without_a_server_too(build, database):
    where = place.choose({"MLFLOW_TRACKING_URI": database, "MLFLOW_EXPERIMENT_NAME": "direct"})
    with place.opened(where):
        assert store.publish(where, collect(build))[0] == "build"
        assert store.publish(where, collect(build)) == []


@pytest.fixture
def client(tmp_path, empty_database):
    import mlflow

    shutil.copy2(empty_database, tmp_path / "mlflow.db")
    return mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db", registry_uri=f"sqlite:///{tmp_path}/mlflow.db")


def test_a_turn_leaves_nothing_behind(client):
    with turn(client, "team/one") as held:
        assert [model.name for model in client.search_registered_models()] == ["team-one.lock"]
        held.renew()
    assert client.search_registered_models() == []


def test_a_writer_that_was_killed_holds_up_the_next_one_for_a_while_only(client):
    killed = Turn(client, "one.lock")
    killed.wait(pause_s=0.01, patience_s=0.1)
    with turn(client, "one", pause_s=0.01, patience_s=0.1) as held:
        with pytest.raises(
            TurnLost, match=r"another build took 'one\.lock' after too long a silence.*`dvc repro` again"
        ):
            killed.renew()
        killed.end()
        held.renew()


def test_a_writer_that_lives_is_waited_for(client):
    living = Turn(client, "one.lock")
    living.wait(pause_s=0.01, patience_s=0.5)
    waiting = Turn(client, "one.lock")
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        living.renew() if len(pauses) < 5 else living.end()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stages.tracking.turn.time.sleep", pause)
        waiting.wait(pause_s=0.01, patience_s=60)
    assert len(pauses) == 5
    waiting.renew()
