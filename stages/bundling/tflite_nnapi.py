"""The forms of a TFLite artifact, and who was seen to take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.bundling import litert
from stages.bundling.forms import FIFTY, NOT_ASKED, Client, Form, client
from stages.bundling.source import Source
from stages.schema.release import Release
from stages.schema.variant import Dynamic, Mixed, Precision, Static
from stages.targets.tflite_nnapi.flatbuffer import MODEL

FORMS = {
    "litert": Form("`samples/classify_litert.py`: LiteRT, one signature per length.", ("classify_litert.py",)),
    "litert_task": Form(
        "`samples/Classify.kt`: MediaPipe's TextClassifier takes the file as it is, on every platform; "
        "`samples/classify_litert.html` (browser): LiteRT.js, no network.",
        ("classify_litert.html", "Classify.kt"),
    ),
}
ALIKE = "50 of 50 answers as in LiteRT 2.3.0"


def write(source: Source, bundle: Path, settings: Release) -> tuple[dict[str, Any], dict[str, str]]:
    """Write the forms that are asked for; see `forms.Forms`."""
    if "litert" not in settings.forms:
        return {"litert": {"path": MODEL}}, {"litert_task": NOT_ASKED}
    forms = {"litert": {"path": litert.write_model(source, bundle)}}
    reason = source.tokenization.why_not_bert()
    if reason:
        return forms, {"litert_task": reason}
    return {**forms, "litert_task": {"path": litert.write_task(source, bundle)}}, {}


def clients(form: str, source: Source) -> list[Client]:
    """Return the oldest version of each client that was seen to answer rightly, and how that is known."""
    if form == "litert":
        web = client("LiteRT.js", "2.5.3", f"{FIFTY} at fp32 and dynamic int8; older ones were not tried")
        return [_oldest(source.precision), web]
    return [
        client("MediaPipe Tasks (Python)", "1.2.2", "all 4,500 CLINC150 utterances as in torch in fp32"),
        client("MediaPipe Tasks (web)", "1.0.1", f"{FIFTY}, in Chromium; older ones were not tried"),
        client("MediaPipe Tasks (Android, iOS)", "unknown", "the same file; not run"),
        client("LiteRT.js", "2.5.3", "the sample page, in Chromium; older ones were not tried"),
    ]


def _oldest(precision: Precision) -> Client:
    """Tried: every LiteRT from 1.0.1 on with fp32 and dynamic int8, four of them with the other precisions."""
    match precision:
        case Mixed():
            both = _oldest(precision.low), _oldest(precision.high)
            return max(both, key=lambda one: (one["client"] == "LiteRT", one["oldest_seen_right"]))
        case Dynamic(granularity="block_32"):
            return client("LiteRT", "2.1.0", f"{ALIKE}; LiteRT 2.0.3 refuses")
        case Static(activation_bits=16):
            return client("LiteRT", "1.0.1", f"{ALIKE}; the first release. TensorFlow Lite 2.14.0 has no such kernels")
        case Dynamic(granularity="channel"):
            return client("LiteRT", "1.0.1", f"{ALIKE}; the first release. TensorFlow Lite 2.14.0 refuses")
    return client("TensorFlow Lite", "2.14.0", f"{ALIKE}, 48 at static int8; the oldest tried")
