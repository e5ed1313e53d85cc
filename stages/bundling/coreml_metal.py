"""The forms of a Core ML artifact, and who takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.bundling import core_ml
from stages.bundling.forms import NOT_ASKED, Client, Form, client
from stages.bundling.source import Source
from stages.schema.release import Release

FORMS = {
    "mlpackage": Form("Core ML; labels in `labels.txt`."),
    "coreml": Form(
        "`samples/Classify.swift`: Core ML with swift-transformers' tokenizer; the labels are in its metadata.",
        ("Classify.swift",),
        configured=core_ml.TOKENIZER,
        rules_from_file=True,
    ),
}


def write(source: Source, bundle: Path, settings: Release) -> tuple[dict[str, Any], dict[str, str]]:
    """Write the forms that are asked for; see `forms.Forms`."""
    forms = {"mlpackage": {"path": core_ml.SOURCE_PACKAGE}}
    if "coreml" not in settings.forms:
        return forms, {"coreml": NOT_ASKED}
    return {**forms, "coreml": {"path": core_ml.write(source, bundle), "tokenizer": core_ml.TOKENIZER}}, {}


def clients(form: str, source: Source) -> list[Client]:  # noqa: ARG001
    """Return the client, and how much is known of it."""
    return [client("Core ML", "the package's deployment target", "not run by Core ML unless the verdict says so")]
