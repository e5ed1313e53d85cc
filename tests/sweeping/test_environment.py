"""A job of a sweep is tracked in the repository's own place, as the sweep's, whatever the place is called."""

import pytest

from stages.sweeping.build import environment_of
from stages.tracking import place


@pytest.mark.parametrize("name", ["plain", "a#b?c=%2Fd é"])
@pytest.mark.parametrize("uri", ["", "sqlite:///mlruns/mlflow.db"])
def test_a_job_is_tracked_in_the_repositorys_database_under_the_sweeps_name(tmp_path, monkeypatch, name, uri):
    root, worktree = tmp_path / name, tmp_path / name / "sweeps/mine/work/job"
    worktree.mkdir(parents=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    chosen = place.choose(environment_of(root, "mine"), worktree)
    assert chosen.database == root / "mlruns/mlflow.db"
    assert chosen.job == "sweep mine"


def test_a_server_stays_the_one_that_was_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example/base")
    assert environment_of(tmp_path, "mine")["MLFLOW_TRACKING_URI"] == "https://mlflow.example/base"
