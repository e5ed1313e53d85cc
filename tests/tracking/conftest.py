"""A build of four variants, and an empty database to publish it to."""

import pytest

from tests.toys.tracked_build import make, publish_first


@pytest.fixture
def build(tmp_path):
    """A finished build."""
    return make(tmp_path)


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
