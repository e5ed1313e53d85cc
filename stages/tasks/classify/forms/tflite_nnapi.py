"""The forms of a classifier's TFLite artifact, and who was seen to take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.releasing import tflite_nnapi
from stages.releasing.forms import FIFTY, NOT_ASKED, Client, Form, client
from stages.releasing.source import Source
from stages.schema.release import Release
from stages.tasks.classify.forms import task_file

FORMS = {
    "litert": Form("`samples/classify_litert.py`: LiteRT, one signature per length.", ("classify_litert.py",)),
    "litert_task": Form(
        "`samples/Classify.kt`: MediaPipe's TextClassifier takes the file as it is, on every platform; "
        "`samples/classify_litert.html` (browser): LiteRT.js, no network.",
        ("classify_litert.html", "Classify.kt"),
    ),
}


def write(source: Source, bundle: Path, settings: Release) -> tuple[dict[str, Any], dict[str, str]]:
    """Write the forms that are asked for; see `forms.TargetForms`."""
    forms, left_out = tflite_nnapi.write(source, bundle, settings)
    reason = source.tokenization.why_not_bert() if "litert" in settings.forms else NOT_ASKED
    if reason:
        return forms, {**left_out, "litert_task": reason}
    return {**forms, "litert_task": {"path": task_file.write(source, bundle)}}, left_out


def clients(form: str, source: Source) -> list[Client]:
    """Return the oldest version of each client that was seen to answer rightly, and how that is known."""
    if form != "litert_task":
        return tflite_nnapi.clients(form, source)
    return [
        client("MediaPipe Tasks (Python)", "1.2.2", "all 4,500 CLINC150 utterances as in torch in fp32"),
        client("MediaPipe Tasks (web)", "1.0.1", f"{FIFTY}, in Chromium; older ones were not tried"),
        client("MediaPipe Tasks (Android, iOS)", "unknown", "the same file; not run"),
        client("LiteRT.js", "2.5.3", "the sample page, in Chromium; older ones were not tried"),
    ]
