"""What any Core ML artifact ships as: itself; and how much is known of who takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.releasing import core_ml
from stages.releasing.forms import Client, Form, client
from stages.releasing.source import Source
from stages.schema.release import Release

FORMS = {"mlpackage": Form("Core ML.")}


def write(source: Source, bundle: Path, settings: Release) -> tuple[dict[str, Any], dict[str, str]]:  # noqa: ARG001
    """Say where the package lies; see `forms.TargetForms`."""
    return {"mlpackage": {"path": core_ml.SOURCE_PACKAGE}}, {}


def clients(form: str, source: Source) -> list[Client]:  # noqa: ARG001
    """Return the client, and how much is known of it."""
    return [client("Core ML", "the package's deployment target", "not run by Core ML unless the verdict says so")]
