"""MLflow's record of a build: taken when it is tracked, compared when it is audited.

MLflow keeps digests and verifies none, and anybody who can write its database can rewrite a verdict. `track` therefore
reads back what it published (`build/tracked.json`), and an audit reads it again. Aliases are left out: they move.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.lineage.bundle import files
from stages.lineage.findings import SHORT, Finding, Link
from stages.tracking import place as tracking
from stages.tracking.errors import TrackingRefused, without_password

TRACKED = "tracked.json"
PROMOTED = "promoted.json"
SCHEMES = ("models:/", "runs:/")
QUIET = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}


def is_uri(subject: str) -> bool:
    """Whether an audit's subject is a model in MLflow."""
    return subject.startswith(SCHEMES)


def take(where: tracking.Place, fingerprint: str, fingerprints: Iterable[str]) -> dict[str, Any]:
    """Read back everything that MLflow has of a build.

    Args:
        where: the server or database.
        fingerprint: the build's.
        fingerprints: those of all its records.

    Returns:
        `fields`: what → text, `run onnx-cpu-fp32 (pass): tag verdict` → `pass`, files with their sha256.
    """
    return {
        "database": {"path": str(where.database), "sha256": artifact.sha256(where.database)}
        if where.database
        else None,
        "experiment": where.experiment,
        "fields": _fields(where, fingerprints),
        "fingerprint": fingerprint,
        "fingerprints": sorted(fingerprints),
        "uri": without_password(where.uri),
    }


def knows(path: Path, where: tracking.Place, fingerprint: str) -> bool:
    """Whether a record was taken of this build, there."""
    if not path.is_file():
        return False
    record = artifact.read_json(path)
    there = {"experiment": where.experiment, "fingerprint": fingerprint, "uri": without_password(where.uri)}
    return all(record.get(key) == value for key, value in there.items())


def database(build: Path) -> Path | None:
    """Return the local database that a build was tracked in, None for a server or an untracked build."""
    path = build / TRACKED
    entry = artifact.read_json(path)["database"] if path.is_file() else None
    return Path(entry["path"]) if entry else None


def compare_build(build: Path) -> list[Link]:
    """Hold MLflow to what it was told about the build in `build`; nothing where none was tracked."""
    path = build / TRACKED
    if not path.is_file():
        return []
    record = artifact.read_json(path)
    link = Link(f"MLflow, {record['uri']}, experiment {record['experiment']}")
    local = database(build)
    where = tracking.Place(record["uri"], record["experiment"], local)
    if local and not local.is_file():
        link.unfollowed.append(f"'{local}' is gone; `dvc repro` fills it again")
        return [link]
    if local:
        _check_database(local, _left(build, record["database"]["sha256"]), link)
    if link.findings:
        return [link]
    try:
        found = _fields(where, record["fingerprints"])
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
    return [link]


def fetch(uri: str, scratch: Path) -> tuple[Path, Link]:
    """Download a model and hold its record to the bytes that came.

    Args:
        uri: `models:/NAME/VERSION`, `models:/NAME@ALIAS`, `models:/ID` or `runs:/RUN/NAME`.
        scratch: where the files go.

    Raises:
        ArtifactError: MLflow has no such model, or it is none of Tinsmith's.
    """
    where = tracking.choose(os.environ)
    client = _client(where)
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        model = _model(client, uri)
        directory = Path(download_artifacts(f"models:/{model.model_id}", dst_path=str(scratch / "model")))
    except MlflowException as error:
        raise ArtifactError(f"cannot fetch '{uri}' from '{without_password(where.uri)}': {error.message}") from error
    link = Link(f"MLflow's record of {model.name}")
    digest = artifact.digest(directory)
    if model.tags.get("artifact") != digest[:SHORT]:
        link.findings.append(Finding(f"{uri}: tag artifact", digest[:SHORT], str(model.tags.get("artifact"))))
    run = client.get_run(model.source_run_id)
    for key in sorted(set(model.tags) & set(run.data.tags)):
        if model.tags[key] != run.data.tags[key]:
            link.findings.append(Finding(f"{uri}: tag {key}", f"{run.data.tags[key]} (its run)", model.tags[key]))
    link.notes.append(f"verdict {model.tags.get('verdict')}, run {run.info.run_id}, code at {run.data.tags.get('rev')}")
    return directory, link


def _left(build: Path, tracked: str) -> str:
    """Return the sha256 that the build left: by tracking, or by moving the alias `released` right after it."""
    path = build / PROMOTED
    moved = artifact.read_json(path)["database"] if path.is_file() else None
    return str(moved["after"]) if moved and moved["before"] == tracked else tracked


def _check_database(local: Path, recorded: str, link: Link) -> None:
    """Say whether a local database is, byte for byte, what tracking left; a damaged one is a finding."""
    found = artifact.sha256(local)
    if found == recorded:
        link.notes.append("its database is, byte for byte, the one that tracking left")
        return
    try:
        with sqlite3.connect(f"{local.resolve().as_uri()}?mode=ro", uri=True) as connection:
            said = "; ".join(str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)"))
    except sqlite3.Error as error:
        said = str(error)
    if said != "ok":
        link.findings.append(Finding(str(local), f"{recorded}, a sound SQLite database", f"{found}, {said}"))
    link.notes.append(f"{local}: sha256 was {recorded} when it was tracked and is {found}: it has been written since")


def _fields(where: tracking.Place, fingerprints: Iterable[str]) -> dict[str, str]:
    from mlflow.exceptions import MlflowException

    client = _client(where)
    fields: dict[str, str] = {}
    try:
        experiment = client.get_experiment_by_name(where.experiment)
        if experiment is None:
            return {}
        about = {"artifact_location": experiment.artifact_location, "tags": experiment.tags}
        fields = _flat(f"experiment {experiment.name}", about)
        for fingerprint in fingerprints:
            for run in client.search_runs([experiment.experiment_id], f"tags.fingerprint = '{fingerprint}'"):
                if run.info.status == "FINISHED":
                    fields |= _run(client, experiment.experiment_id, run)
    except MlflowException as error:
        raise TrackingRefused(where.uri, error.message) from error
    return dict(sorted(fields.items()))


def _run(client: Any, experiment: str, run: Any) -> dict[str, str]:
    """Flatten a run, its model and the versions of that."""
    name = f"run {run.info.run_name} {run.info.run_id[:8]}"
    parts: dict[str, Any] = {"data": run.data.to_dictionary(), "info": dict(run.info)}
    fields = _flat(name, parts | {"inputs": run.inputs.to_dictionary()})
    fields |= _files(name, f"runs:/{run.info.run_id}/")
    models = client.search_logged_models([experiment], filter_string=f"source_run_id = '{run.info.run_id}'")
    for model in models:
        of_model = f"model {model.name} {model.model_id[:8]}"
        metrics = {each.key: [each.value, each.timestamp, each.dataset_digest] for each in model.metrics or []}
        parts = {"metrics": metrics, "params": model.params, "run": model.source_run_id, "tags": model.tags}
        fields |= _flat(of_model, parts)
        fields |= _files(of_model, f"models:/{model.model_id}")
    for version in client.search_model_versions(f"run_id = '{run.info.run_id}'"):
        fields |= _flat(
            f"version {version.name} {version.version}",
            {"description": version.description, "source": version.source, "tags": version.tags},
        )
        fields[f"model {version.name}: description"] = str(client.get_registered_model(version.name).description)
    return fields


def _flat(prefix: str, value: Any) -> dict[str, str]:
    if isinstance(value, Mapping):
        return {key: text for name, item in value.items() for key, text in _flat(f"{prefix}: {name}", item).items()}
    if isinstance(value, list | tuple):
        return {key: text for i, item in enumerate(value) for key, text in _flat(f"{prefix}: {i}", item).items()}
    return {prefix: str(value)}


def _files(prefix: str, uri: str) -> dict[str, str]:
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(download_artifacts(uri, dst_path=scratch))
        return {f"{prefix}: file {name}": artifact.sha256(directory / name) for name in files(directory)}


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


def _client(where: tracking.Place) -> Any:
    import mlflow

    for name, value in (tracking.PATIENCE | QUIET).items():
        os.environ.setdefault(name, value)
    mlflow.set_tracking_uri(where.uri)
    mlflow.set_registry_uri(where.uri)
    return mlflow.MlflowClient(where.uri)
