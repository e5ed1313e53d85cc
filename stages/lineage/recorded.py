"""MLflow's record of a build, audited: held to what tracking read back, and to the build that lies here."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stages.core import artifact, params
from stages.core.errors import ArtifactError, TinsmithError
from stages.core.params import PARAMS_FILE
from stages.lineage.findings import SHORT, Finding, Link
from stages.schema.layout import REPORT, VERDICTS
from stages.tracking import moved, store
from stages.tracking import place as tracking
from stages.tracking import record as tracking_record
from stages.tracking.client import connect
from stages.tracking.errors import TrackingRefused, refusals, without_password
from stages.tracking.tracked import TRACKED, database, fields_of, left, name_of

SCHEMES = ("models:/", "runs:/")


def is_uri(subject: str) -> bool:
    """Whether an audit's subject is a model in MLflow."""
    return subject.startswith(SCHEMES)


def compare_build(build: Path) -> list[Link]:
    """Hold MLflow to the build in `build` and to what it was told; nothing where none was tracked."""
    path = build / TRACKED
    record = artifact.read_json(path) if path.is_file() else {}
    if not record or not {"found", "pending"} & record.keys():
        return _unrecorded(build)
    link = Link(f"MLflow, {record['uri']}, experiment {record['experiment']}")
    if "pending" in record:
        link.unfollowed.append(f"not tracked yet: {record['pending']}; `dvc repro` writes it")
        return [link]
    local = database(build)
    where = tracking.Place(record["experiment"], local, record["uri"] if local is None else "", record.get("job", ""))
    if local and not local.is_file():
        link.unfollowed.append(f"'{local}' is gone; `dvc repro` fills it again")
        return [link]
    if local:
        _check_database(local, left(build, record["database"]["sha256"]), link, found=record.get("found", False))
    if link.findings or _is_elsewhere(where, link):
        return [link]
    try:
        found, _ = fields_of(where, record["fingerprints"])
    except (TrackingRefused, ArtifactError) as error:
        link.unfollowed.append(str(error))
        return [link]
    recorded: dict[str, str] = record["fields"]
    link.findings += [
        Finding(f"MLflow: {name}", value, found.get(name, "nothing"))
        for name, value in recorded.items()
        if found.get(name) != value
    ]
    link.notes.append(f"{len(recorded)} fields and files of {len(record['fingerprints'])} runs were compared")
    _compare_content(build, where, link, record["fingerprint"])
    return [link]


def _unrecorded(build: Path) -> list[Link]:
    """Compare a build that MLflow may have with nothing but itself: its record is missing, or of an earlier version."""
    where = tracking.choose(os.environ)
    if where.database and not where.database.is_file():
        return []
    link = Link(f"MLflow, {name_of(build, where)}, experiment {where.experiment}")
    said = "is of an earlier version" if (build / TRACKED).is_file() else "is missing"
    link.unfollowed.append(f"'{build / TRACKED}' {said}: what was told is not known; `dvc repro` records it")
    if not _is_elsewhere(where, link):
        _compare_content(build, where, link, None)
    return [link]


def _is_elsewhere(where: tracking.Place, link: Link) -> bool:
    """Whether a database still names the files of the workspace that it was moved or copied from."""
    try:
        old = moved.elsewhere(where.database, where.experiment) if where.database else None
    except sqlite3.Error as error:
        link.unfollowed.append(f"'{where.database}': {error}")
        return True
    if old:
        link.unfollowed.append(f"its files are recorded in '{old}': it was moved; `dvc repro` finds them")
    return old is not None


def _compare_content(build: Path, where: tracking.Place, link: Link, fingerprint: str | None) -> None:
    """Compare MLflow with what the build that lies here would write; its own record could have been edited too."""
    try:
        found = collected(build)
        if fingerprint and found.fingerprint != fingerprint:
            link.unfollowed.append("the build that lies here is not the one that was tracked; `dvc repro` tracks it")
            return
        faults = store.compare(where, found)
    except TinsmithError as error:
        link.unfollowed.append(str(error))
        return
    link.findings += [Finding(f"MLflow: {name}: {fault.what}", fault.expected, fault.found) for name, fault in faults]
    link.notes.append(f"{len(found.variants) + 1} records were compared with what this build would write")


def collected(build: Path) -> tracking_record.Build:
    """Read the build that lies here as `track` does.

    Raises:
        ArtifactError: a stage output is missing.
    """
    return tracking_record.collect(build, build / VERDICTS, build / REPORT, PARAMS_FILE, params.read(PARAMS_FILE))


def fetch(uri: str, scratch: Path) -> tuple[Path, Link]:
    """Download a model and hold its record to the bytes that came.

    Args:
        uri: `models:/NAME/VERSION`, `models:/NAME@ALIAS`, `models:/ID` or `runs:/RUN/NAME`.
        scratch: where the files go.

    Raises:
        ArtifactError: MLflow has no such model, or it is none of Tinsmith's.
        TrackingRefused: the server or database cannot be used.
    """
    where = tracking.choose(os.environ)
    if where.database and not where.database.is_file():
        raise ArtifactError(f"cannot fetch '{uri}': there is no '{where.database}'", next_step="run `dvc repro`")
    with refusals(where.name):
        model, run, directory = _download(where, uri, scratch)
    link = Link(f"MLflow's record of {model.name}")
    digest = artifact.digest(directory)
    if model.tags.get("artifact") != digest[:SHORT]:
        link.findings.append(Finding(f"{uri}: tag artifact", digest[:SHORT], str(model.tags.get("artifact"))))
    for key in sorted(set(model.tags) & set(run.data.tags)):
        if model.tags[key] != run.data.tags[key]:
            link.findings.append(Finding(f"{uri}: tag {key}", f"{run.data.tags[key]} (its run)", model.tags[key]))
    link.notes.append(f"verdict {model.tags.get('verdict')}, run {run.info.run_id}, code at {run.data.tags.get('rev')}")
    return directory, link


def _download(where: tracking.Place, uri: str, scratch: Path) -> tuple[Any, Any, Path]:
    """Return a logged model, its run, and where its files lie now."""
    client = connect(where)
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        model = _model(client, uri)
        directory = Path(download_artifacts(f"models:/{model.model_id}", dst_path=str(scratch / "model")))
        return model, client.get_run(model.source_run_id), directory
    except MlflowException as error:
        raise ArtifactError(f"cannot fetch '{uri}' from '{without_password(where.name)}': {error.message}") from error


def _check_database(local: Path, recorded: str, link: Link, *, found: bool) -> None:
    """Say whether a local database is, byte for byte, what tracking left; a damaged one is a finding.

    Args:
        local: the database.
        recorded: sha256 that tracking left.
        link: where to say it.
        found: whether the record was taken of a database that had the build already.
    """
    sha = artifact.sha256(local)
    if sha == recorded and found:
        link.notes.append(
            "its database had this build when the record was taken: revision and times are as they were found"
        )
        return
    if sha == recorded:
        link.notes.append("its database is, byte for byte, the one that tracking left")
        return
    try:
        with sqlite3.connect(f"{local.resolve().as_uri()}?mode=ro", uri=True) as connection:
            said = "; ".join(str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)"))
    except sqlite3.Error as error:
        said = str(error)
    if said != "ok":
        link.findings.append(Finding(str(local), f"{recorded}, a sound SQLite database", f"{sha}, {said}"))
    link.notes.append(f"{local}: sha256 was {recorded} when it was tracked and is {sha}: it has been written since")


def _model(client: Any, uri: str) -> Any:
    """Find the logged model behind a URI."""
    parts = urlsplit(uri)
    name, _, rest = parts.path.removeprefix("/").partition("/")
    if parts.scheme == "runs":
        run = client.get_run(name)
        models = client.search_logged_models([run.info.experiment_id], filter_string=f"source_run_id = '{name}'")
        found = [model for model in models if not rest or model.name == rest]
        if not found:
            raise ArtifactError(f"run '{name}' has no model{f' named {rest!r}' if rest else ''}")
        return found[0]
    name, _, alias = name.partition("@")
    if alias or rest:
        version = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, rest)
        name = version.source.removeprefix("models:/")
    return client.get_logged_model(name)
