"""Which server or database it is told to, and who may write there."""

import subprocess
import sys

import pytest

from stages.tracking import place
from stages.tracking.errors import TrackingRefused


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
