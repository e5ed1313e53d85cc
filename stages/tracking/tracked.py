"""What `track` read back after publishing, `build/tracked.json`: MLflow keeps digests and verifies none.

Anybody who can write MLflow's database can rewrite a verdict; an audit compares it with this. Aliases are left out:
they move.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from stages.core import artifact
from stages.tracking import moved, store, stored
from stages.tracking.check import SUPERSEDED
from stages.tracking.errors import refusals, without_password
from stages.tracking.place import PATIENCE, Place

TRACKED, PROMOTED = "tracked.json", "promoted.json"
# What a run says of itself and no file of the build could confirm.
UNPROVEN = re.compile(r": (start_time|user_id|rev|dirty|mlflow\.source\.git\.commit|mlflow\.user)$")


def take(
    build: Path, where: Place, fingerprint: str, fingerprints: Iterable[str], written: Collection[str] = ()
) -> dict[str, Any]:
    """Read back everything that MLflow has of a build.

    What an earlier record of the same build says of its code and its start stays: nothing here could tell whether a
    database that says otherwise now is right.

    Args:
        build: directory of all stage outputs, where an earlier record may lie.
        where: the server or database.
        fingerprint: the build's.
        fingerprints: those of all its records.
        written: what was written to it just now; nothing, where it was all there.

    Returns:
        `fields`: what → text, `run onnx-cpu-fp32 (pass): tag verdict` → `pass`, files with their sha256.
    """
    earlier = artifact.read_json(build / TRACKED) if knows(build, where, fingerprint) else None
    fields, stored = fields_of(where, fingerprints)
    kept = {name: value for name, value in (earlier or {}).get("fields", {}).items() if UNPROVEN.search(name)}
    return _about(build, where, fingerprint, fingerprints) | {
        "fields": fields | {name: value for name, value in kept.items() if name in fields},
        "files": stored,
        "found": earlier["found"] if earlier else "build" not in written,
    }


def wait(build: Path, where: Place, fingerprint: str, fingerprints: Iterable[str], reason: str) -> dict[str, Any]:
    """Return the record of a build that could not be tracked yet."""
    return _about(build, where, fingerprint, fingerprints) | {"pending": reason}


def _about(build: Path, where: Place, fingerprint: str, fingerprints: Iterable[str]) -> dict[str, Any]:
    there = where.database and where.database.is_file()
    return {
        "database": {"path": name_of(build, where), "sha256": artifact.sha256(where.database)}
        if there and where.database
        else None,
        "experiment": where.experiment,
        "fields": {},
        "fingerprint": fingerprint,
        "fingerprints": sorted(fingerprints),
        "job": where.job,
        "uri": name_of(build, where),
    }


def name_of(build: Path, where: Place) -> str:
    """Name a place as it is called from the workspace: a moved or copied one has its own database."""
    if where.database is None:
        return without_password(where.uri)
    home = build.resolve().parent
    inside = where.database.is_relative_to(home)
    return str(where.database.relative_to(home) if inside else where.database)


def knows(build: Path, where: Place, fingerprint: str) -> bool:
    """Whether a record was taken of this build, there."""
    path = build / TRACKED
    if not path.is_file():
        return False
    record = artifact.read_json(path)
    there = {"experiment": where.experiment, "fingerprint": fingerprint, "uri": name_of(build, where)}
    return "found" in record and all(record.get(key) == value for key, value in there.items())


def untouched(build: Path, where: Place) -> bool:
    """Whether a local database has not been written to since this build was tracked or promoted; in doubt, False.

    Importing MLflow costs about 3 s of CPU; comparing bytes first keeps a no-op `dvc repro` quick.
    """
    path = build / TRACKED
    if not (where.database and where.database.is_file() and path.is_file()):
        return False
    record = artifact.read_json(path)
    if record["experiment"] != where.experiment or record["uri"] != name_of(build, where) or not record["database"]:
        return False
    if any(where.database.with_name(where.database.name + end).exists() for end in ("-journal", "-wal")):
        return False
    return artifact.sha256(where.database) == left(build, record["database"]["sha256"])


def is_whole(build: Path, where: Place, fingerprint: str) -> bool:
    """Whether a local database and its files are, byte for byte, what this build left there."""
    if not (knows(build, where, fingerprint) and untouched(build, where) and where.database):
        return False
    files = artifact.read_json(build / TRACKED)["files"]
    there = ((where.database.parent / name, sha) for name, sha in files.items())
    return all(path.is_file() and artifact.sha256(path) == sha for path, sha in there)


def database(build: Path) -> Path | None:
    """Return the local database that a build was tracked in, None for a server or an untracked build."""
    path = build / TRACKED
    entry = artifact.read_json(path)["database"] if path.is_file() else None
    return build.resolve().parent / entry["path"] if entry else None


def left(build: Path, tracked: str) -> str:
    """Return the sha256 that the build left: by tracking, or by moving the alias `released` right after it."""
    path = build / PROMOTED
    moved = artifact.read_json(path)["database"] if path.is_file() else None
    return str(moved["after"]) if moved and moved["before"] == tracked else tracked


def fields_of(where: Place, fingerprints: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Read everything that MLflow has of some records; of a local database also its files, path → sha256."""
    client = client_of(where)
    fields: dict[str, str] = {}
    stored_files: dict[str, str] = {}
    with refusals(where.name):
        experiment = client.get_experiment_by_name(where.experiment)
        if experiment is None:
            return {}, {}
        about = {"artifact_location": _relative(where, experiment.artifact_location), "tags": experiment.tags}
        fields = _flat(f"experiment {experiment.name}", about)
        for fingerprint in fingerprints:
            for run in client.search_runs([experiment.experiment_id], f"tags.fingerprint = '{fingerprint}'"):
                if run.info.status == "FINISHED" and SUPERSEDED not in run.data.tags:
                    found, files_of_run = _run(client, where, experiment.experiment_id, run)
                    fields |= found
                    stored_files |= files_of_run
    return dict(sorted(fields.items())), dict(sorted(stored_files.items()))


def _run(client: Any, where: Place, experiment: str, run: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Flatten a run, its model and the versions of that."""
    name = f"run {run.info.run_name} {run.info.run_id[:8]}"
    info = dict(run.info) | {"artifact_uri": _relative(where, run.info.artifact_uri)}
    parts: dict[str, Any] = {"data": run.data.to_dictionary(), "info": info, "inputs": run.inputs.to_dictionary()}
    fields = _flat(name, parts)
    places = {name: run.info.artifact_uri}
    for model in client.search_logged_models([experiment], filter_string=f"source_run_id = '{run.info.run_id}'"):
        of_model = f"model {model.name} {model.model_id[:8]}"
        metrics = {each.key: [each.value, each.timestamp, each.dataset_digest] for each in model.metrics or []}
        parts = {"metrics": metrics, "params": model.params, "run": model.source_run_id, "tags": model.tags}
        fields |= _flat(of_model, parts)
        places[of_model] = model.artifact_location
    for version in client.search_model_versions(f"run_id = '{run.info.run_id}'"):
        fields |= _flat(
            f"version {version.name} {version.version}",
            {"description": version.description, "source": version.source, "tags": version.tags},
        )
        fields[f"model {version.name}: description"] = str(client.get_registered_model(version.name).description)
    digests = {owner: stored.digests(uri) for owner, uri in places.items()}
    fields |= {f"{owner}: file {file}": sha for owner, found in digests.items() for file, sha in found.items()}
    local = {owner: _relative(where, uri) for owner, uri in places.items() if where.database and moved.local(uri)}
    return fields, {f"{base}/{file}": sha for owner, base in local.items() for file, sha in digests[owner].items()}


def _relative(where: Place, uri: str) -> str:
    """Name a location as it is called from a local database's directory, which may move."""
    path = moved.local(uri)
    if where.database is None or path is None or not path.is_relative_to(where.database.parent):
        return uri if path is None else str(path)
    return path.relative_to(where.database.parent).as_posix()


def _flat(prefix: str, value: Any) -> dict[str, str]:
    if isinstance(value, Mapping):
        return {key: text for name, item in value.items() for key, text in _flat(f"{prefix}: {name}", item).items()}
    if isinstance(value, list | tuple):
        return {key: text for i, item in enumerate(value) for key, text in _flat(f"{prefix}: {i}", item).items()}
    return {prefix: str(value)}


def client_of(where: Place) -> Any:
    """Return MLflow's client of a place, patient and quiet enough for us."""
    for name, value in (PATIENCE | stored.QUIET).items():
        os.environ.setdefault(name, value)
    return store.connect(where)
