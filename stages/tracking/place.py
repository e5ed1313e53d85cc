"""Where a build is tracked: a local database with its artifacts beside it, or a server.

MLflow's own variables choose it: MLFLOW_TRACKING_URI the place, MLFLOW_EXPERIMENT_NAME the experiment.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from stages.core.artifact import sha256
from stages.tracking.errors import TrackingRefused

LOCAL = Path("mlruns")
EXPERIMENT = "tinsmith"
SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")
# MLflow's own defaults (7 tries, 120 s each, waits that double) keep a build waiting for minutes for a dead server.
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


@dataclass(frozen=True)
class Place:
    """Where a build is tracked.

    Attributes:
        uri: tracking URI.
        experiment: the experiment's name; registered models begin with it too.
        database: the file of a local database, None for a server.
    """

    uri: str
    experiment: str
    database: Path | None

    @property
    def artifacts(self) -> str | None:
        """Where a new experiment's artifacts go: beside a local database, or where the server says (None)."""
        return (self.database.parent / "artifacts").as_uri() if self.database else None


def choose(environment: Mapping[str, str]) -> Place:
    """Read MLflow's variables.

    Raises:
        TrackingRefused: the URI has no scheme that holds runs, logged models and a registry.
    """
    uri = environment.get("MLFLOW_TRACKING_URI") or f"sqlite:///{LOCAL.resolve() / 'mlflow.db'}"
    experiment = environment.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    scheme, dialect_separator, _ = urlsplit(uri).scheme.partition("+")
    if scheme not in SCHEMES:
        raise TrackingRefused(uri, f"no scheme among {', '.join(SCHEMES)}")
    if scheme != "sqlite" or dialect_separator:
        return Place(uri, experiment, None)
    path = urlsplit(uri).path.removeprefix("/")
    if not uri.startswith("sqlite:///") or not path:
        raise TrackingRefused(uri, "it names no file (three slashes, then its path)")
    return Place(uri, experiment, Path(path).resolve())


def registered(experiment: str, variant: str) -> str:
    """Name a registered model; it begins with the experiment, so that projects on one server do not mix."""
    return f"{experiment.replace('/', '-').replace(':', '-')}.{variant}"


def holds(database: Path, experiment: str, fingerprints: Iterable[str]) -> bool:
    """Whether a local database has a finished run of every fingerprint in an experiment.

    Importing MLflow costs about 3 s of CPU; asking its database first keeps a no-op `dvc repro` quick. Any doubt
    (no file, another schema) is answered with False, and MLflow itself decides.
    """
    if not database.is_file():
        return False
    query = (
        "SELECT t.value FROM tags t JOIN runs r ON r.run_uuid = t.run_uuid "
        "JOIN experiments e ON e.experiment_id = r.experiment_id "
        "WHERE t.key = 'fingerprint' AND r.status = 'FINISHED' AND r.lifecycle_stage = 'active' AND e.name = ?"
    )
    try:
        with sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True) as connection:
            have = {row[0] for row in connection.execute(query, (experiment,))}
    except sqlite3.Error:
        return False
    return set(fingerprints) <= have


def released(database: Path, experiment: str, bundles: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether a local database has the alias `released` on every bundle's version; any doubt is answered with False."""
    query = (
        "SELECT t.key, t.value FROM registered_model_aliases a JOIN model_version_tags t "
        "ON t.name = a.name AND t.version = a.version WHERE a.alias = 'released' AND a.name = ?"
    )
    try:
        with sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True) as connection:
            return all(
                chain.items() <= dict(connection.execute(query, (registered(experiment, key),))).items()
                for key, chain in bundles.items()
            )
    except sqlite3.Error:
        return False


def digest(place: Place) -> str | None:
    """Return the sha256 of a local database, None for a server or where there is none yet."""
    return sha256(place.database) if place.database and place.database.is_file() else None


@contextmanager
def opened(place: Place) -> Iterator[None]:
    """Prepare MLflow's environment and hold a local database alone.

    Searching for a fingerprint and creating its run are two steps: without the lock two builds that end together
    write every run and version twice. A server's clients share no file to lock.

    Raises:
        TrackingRefused: the file is no database, or its directory cannot be written.
    """
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    with _locked(place, place.database) if place.database else nullcontext():
        yield


@contextmanager
def _locked(place: Place, database: Path) -> Iterator[None]:
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        stream = database.with_name(f"{database.name}.lock").open("w", encoding="utf-8")
    except OSError as error:
        raise TrackingRefused(place.uri, error.strerror or str(error)) from error
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        _check(place, database)
        yield


def _check(place: Place, database: Path) -> None:
    """Refuse what SQLite refuses; MLflow would retry it ten times, for 100 s."""
    try:
        connection = sqlite3.connect(database)
        try:
            connection.execute("SELECT count(*) FROM sqlite_master")
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise TrackingRefused(place.uri, str(error)) from error
