"""Where a build is tracked: a local database with its artifacts beside it, or a server.

MLflow's own variables choose it: MLFLOW_TRACKING_URI the place, MLFLOW_EXPERIMENT_NAME the experiment. Two of ours say
how: TINSMITH_TRACKING=later lets a release go on while the place cannot be used, TINSMITH_SWEEP names the sweep whose
job this is.
"""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from stages.core.artifact import sha256
from stages.core.errors import ConfigError
from stages.tracking import moved
from stages.tracking.errors import LATER, TrackingRefused

LOCAL = Path("mlruns/mlflow.db")
EXPERIMENT = "tinsmith"
SWEEP = "TINSMITH_SWEEP"
SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")
BUSY_S = 5.0
"""How long another program may hold a local database before it counts as locked."""
# `dvc exp run --temp` and `--queue` build in a folder below this one, and delete it afterwards.
TEMPORARY = (".dvc", "tmp", "exps")
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
        experiment: the experiment's name; registered models begin with it too.
        database: the file of a local database, None for a server.
        server: URI of a server, empty for a local database.
        job: what else than the workspace's own build this is (`sweep mine`): it registers no model and moves no alias.
    """

    experiment: str
    database: Path | None
    server: str = ""
    job: str = ""

    @property
    def uri(self) -> str:
        """Tracking URI, quoted by SQLAlchemy; MLflow makes directories of its own from one that begins `sqlite:///`."""
        if self.database is None:
            return self.server
        from sqlalchemy.engine import URL

        return URL.create("sqlite+pysqlite", database=str(self.database)).render_as_string(hide_password=False)

    @property
    def name(self) -> str:
        """What people call it: the path of a local database, or a server's address."""
        return str(self.database) if self.database else self.server

    @property
    def artifacts(self) -> str | None:
        """Where a new experiment's artifacts go: beside a local database, or where the server says (None)."""
        return (self.database.parent / "artifacts").as_uri() if self.database else None


def choose(environment: Mapping[str, str], directory: Path | None = None) -> Place:
    """Read MLflow's variables.

    Args:
        environment: where they stand.
        directory: the workspace, by default the current directory; the database of one that DVC made for a temporary
            experiment is that of the repository it belongs to.

    Raises:
        TrackingRefused: the URI has no scheme that holds runs, logged models and a registry.
    """
    here = (directory or Path.cwd()).resolve()
    home = workspace(here)
    sweep = environment.get(SWEEP)
    experiment = environment.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    temporary = "" if home == here else f"experiment {environment.get('DVC_EXP_NAME') or here.name}"
    job = f"sweep {sweep}" if sweep else temporary
    uri = environment.get("MLFLOW_TRACKING_URI")
    if not uri:
        return Place(experiment, home / LOCAL, job=job)
    scheme, _, driver = urlsplit(uri).scheme.partition("+")
    if scheme not in SCHEMES:
        raise TrackingRefused(uri, f"no scheme among {', '.join(SCHEMES)}")
    if scheme != "sqlite" or driver not in ("", "pysqlite"):
        return Place(experiment, None, uri, job)
    return Place(experiment, (home / _file(uri)).resolve(), job=job)


def workspace(directory: Path) -> Path:
    """Return the workspace that a directory belongs to: itself, but for one that DVC deletes after its experiment."""
    parts = directory.parts
    for end in range(len(parts) - len(TEMPORARY), 0, -1):
        if parts[end : end + len(TEMPORARY)] == TEMPORARY:
            return Path(*parts[:end])
    return directory


def may_wait(environment: Mapping[str, str]) -> bool:
    """Whether a release may go on while the place cannot be used.

    Raises:
        ConfigError: the variable says neither.
    """
    said = environment.get(LATER) or "required"
    if said not in ("later", "required"):
        raise ConfigError(f"{LATER}='{said}' says nothing", expected="later or required (the default)")
    return said == "later"


def _file(uri: str) -> Path:
    from sqlalchemy.engine import make_url

    url = make_url(uri)
    if not uri.partition(":")[2].startswith("///") or not url.database or url.database == ":memory:":
        raise TrackingRefused(uri, "it names no file (three slashes, then its path)")
    if "?" in uri or url.database.startswith("file:"):
        raise TrackingRefused(uri, "options after a file's path are not understood", "write %3F for a '?' in the path")
    return Path(url.database)


def registered(experiment: str, variant: str) -> str:
    """Name a registered model; it begins with the experiment, so that projects on one server do not mix."""
    return f"{plain(experiment)}.{variant}"


def plain(experiment: str) -> str:
    """Replace what neither the name of a registered model nor a filter of MLflow's can hold."""
    return re.sub(r"""[/:'"`\\]""", "-", experiment)


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
        TrackingRefused: the file is no database, its directory cannot be written, or its artifacts are lost.
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
        raise TrackingRefused(place.name, error.strerror or str(error)) from error
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        _check(place, database)
        yield


def _check(place: Place, database: Path) -> None:
    """Refuse what SQLite refuses, which MLflow would retry ten times, for 100 s, and find files that moved along."""
    try:
        connection = sqlite3.connect(database, timeout=BUSY_S)
        try:
            connection.execute("SELECT count(*) FROM sqlite_master")
            lost = moved.settle(connection, database, place.experiment)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise TrackingRefused(place.name, str(error)) from error
    if lost:
        raise TrackingRefused(
            place.name,
            f"the files of experiment '{place.experiment}' are recorded in '{lost}', where nothing lies",
            f"bring them back, or into '{database.parent / lost.name}', or choose another MLFLOW_EXPERIMENT_NAME",
        )
