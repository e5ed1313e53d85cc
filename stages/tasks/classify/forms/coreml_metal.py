"""The forms of a classifier's Core ML artifact, and who takes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.releasing import core_ml, coreml_metal
from stages.releasing.forms import NOT_ASKED, Form
from stages.releasing.labels import FILE
from stages.releasing.source import Source
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
LOGITS = "One per label, in the order of the labels; softmax makes probabilities of them."

clients = coreml_metal.clients


def write(source: Source, bundle: Path, settings: Release) -> tuple[dict[str, Any], dict[str, str]]:
    """Write the forms that are asked for; see `forms.TargetForms`."""
    forms, left_out = coreml_metal.write(source, bundle, settings)
    if "coreml" not in settings.forms:
        return forms, {**left_out, "coreml": NOT_ASKED}
    return {**forms, "coreml": {"path": write_package(source, bundle), "tokenizer": core_ml.TOKENIZER}}, left_out


def write_package(source: Source, bundle: Path) -> str:
    """Write the package with the labels among what Xcode shows.

    Returns:
        Where it lies.

    Raises:
        ArtifactError: more than descriptions differs, or it answers otherwise than the artifact.
    """
    about = f"{source.key}: text classification, {len(source.labels)} labels"
    return core_ml.write(source, bundle, about, {"logits": LOGITS}, {"labels": _named(source.labels)})


def differences(package: Path, labels: list[str]) -> Iterator[str]:
    """Compare the labels that Xcode shows with those of a bundle."""
    from stages.coreml.proto import model_file, read_model

    if read_model(model_file(package)).description.metadata.userDefined["labels"] != _named(labels):
        yield f"the description of '{core_ml.PACKAGE}' names other labels than '{FILE}'"


def _named(labels: list[str]) -> str:
    return json.dumps(labels, ensure_ascii=False)
