"""Read files that MLflow stores, wherever it keeps them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.core.artifact import sha256
from stages.tracking import moved

QUIET = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}


def digests(uri: str) -> dict[str, str]:
    """Return name → sha256 of every file below a location; those of a server are downloaded."""
    here = moved.local(uri)
    if here:
        return {name: sha256(here / name) for name in _names(here)}
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    with tempfile.TemporaryDirectory() as scratch:
        if sizes(uri):
            _repository(uri).download_artifacts("", scratch)
        return {name: sha256(Path(scratch) / name) for name in _names(Path(scratch))}


def sizes(uri: str) -> dict[str, int]:
    """Return name → bytes of every file below a location, without reading any."""
    return dict(_listed(_repository(uri), ""))


def file(uri: str, name: str) -> str | None:
    """Return the sha256 of one file below a location, None where it is missing."""
    from mlflow.exceptions import MlflowException

    here = moved.local(uri)
    if here:
        return sha256(here / name) if (here / name).is_file() else None
    with tempfile.TemporaryDirectory() as scratch:
        try:
            return sha256(Path(_repository(uri).download_artifacts(name, scratch)))
        except MlflowException:
            return None


def _names(directory: Path) -> list[str]:
    return sorted(item.relative_to(directory).as_posix() for item in directory.rglob("*") if item.is_file())


def _listed(repository: Any, path: str) -> Iterator[tuple[str, int]]:
    for item in repository.list_artifacts(path or None):
        if item.is_dir:
            yield from _listed(repository, item.path)
        else:
            yield item.path, int(item.file_size or 0)


def _repository(uri: str) -> Any:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(uri)
