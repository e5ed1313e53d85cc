"""MLflow's client of a place, and the tables of a new local database."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

from stages.tracking.place import PATIENCE, Place, is_empty
from stages.tracking.stored import QUIET


def connect(place: Place) -> Any:
    """Return MLflow's client of a place, patient and quiet enough for us; a local database is made where none is."""
    for name, value in (PATIENCE | QUIET).items():
        os.environ.setdefault(name, value)
    import mlflow

    if place.database and is_empty(place.database):
        _create(place.database)
    mlflow.set_tracking_uri(place.uri)
    mlflow.set_registry_uri(place.uri)
    return mlflow.MlflowClient(place.uri)


def _create(database: Path) -> None:
    """Make MLflow's tables under another name: what a kill leaves half-way, MLflow can neither use nor complete."""
    import mlflow

    for leftover in database.parent.glob(f".{database.name}.*.new*"):
        leftover.unlink()
    fresh = database.with_name(f".{database.name}.{uuid.uuid4().hex}.new")
    mlflow.MlflowClient(Place("", fresh).uri).search_experiments()
    fresh.replace(database)
