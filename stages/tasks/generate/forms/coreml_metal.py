"""The forms of a language model's Core ML artifact; no Mac has taken one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.core import artifact
from stages.core.names import GENERATION
from stages.releasing import core_ml, coreml_metal
from stages.releasing.forms import NOT_ASKED, Form
from stages.releasing.limits import LIMITS
from stages.releasing.source import Source
from stages.schema.release import Release
from stages.targets.coreml_metal import POSITION
from stages.tasks.base import IDS
from stages.tasks.generate.forms import rules

FORMS = {
    "mlpackage": Form("Core ML, with an `MLState` for each text."),
    "coreml": Form(
        "`samples/Generate.swift`: Core ML with swift-transformers' tokenizer, text in, streamed text out; which ids "
        "end a text is in its metadata.",
        ("Generate.swift",),
        configured=core_ml.TOKENIZER,
        rules_from_file=True,
        files=lambda source: {f"{core_ml.TOKENIZER}/{GENERATION}": rules.config(source)},
    ),
}
STOPS = "stop_ids"
"""In the metadata, a JSON list."""

clients = coreml_metal.clients


def write(source: Source, bundle: Path, settings: Release) -> tuple[dict[str, Any], dict[str, str]]:
    """Write the forms that are asked for; see `releasing.forms.TargetForms`."""
    forms, left_out = coreml_metal.write(source, bundle, settings)
    if "coreml" not in settings.forms:
        return forms, {**left_out, "coreml": NOT_ASKED}
    (call,) = source.signature.calls
    features = {
        IDS: "Token ids of a text, or what comes next of it.",
        POSITION: "How many tokens of the text the state holds.",
        **{tensor.name: "Of what follows the last of these tokens, one per id." for tensor in call.outputs},
        **{tensor.name: "Of the tokens so far; begins as zeros." for tensor in call.states},
    }
    stops = json.dumps(rules.stops(rules.defaults(source.checkpoint)))
    path = core_ml.write(source, bundle, f"{source.key}: a causal language model", features, {STOPS: stops})
    return {**forms, "coreml": {"path": path, "tokenizer": core_ml.TOKENIZER}}, left_out


def differences(bundle: Path) -> Iterator[str]:
    """Compare the ids that end a text, as Xcode shows them, with those of a bundle."""
    from stages.coreml.proto import model_file, read_model

    if not (bundle / core_ml.PACKAGE).is_dir():
        return
    wanted = artifact.read_json(bundle / LIMITS)["generation"][STOPS]
    said = read_model(model_file(bundle / core_ml.PACKAGE)).description.metadata.userDefined[STOPS]
    if said != json.dumps(wanted):
        yield f"the description of '{core_ml.PACKAGE}' ends texts with {said[:60]}, '{LIMITS}' with {wanted}"
