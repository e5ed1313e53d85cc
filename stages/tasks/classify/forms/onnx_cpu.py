"""The forms of a classifier's ONNX artifact, and who was seen to take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.releasing import hugging_face, onnx_cpu
from stages.releasing.forms import FIFTY, NOT_ASKED, Client, Form, client
from stages.releasing.source import Source
from stages.schema.release import Release
from stages.tasks.classify.forms import text_form

FORMS = {
    **onnx_cpu.FORMS,
    "onnx": Form(
        "`samples/classify_onnx.py`: ONNX Runtime with the `tokenizers` library, text in, label out.",
        ("classify_onnx.py",),
    ),
    "hf": Form(
        "`samples/classify.mjs` (Node) and `samples/classify.html` (browser): Transformers.js, no network. Python: "
        '`ORTModelForSequenceClassification.from_pretrained("hf", subfolder="onnx", file_name=…)` of Optimum.',
        ("classify.mjs", "classify.html"),
        configured=hugging_face.FOLDER,
    ),
    "text": Form("ONNX Runtime with the onnxruntime-extensions library registered; feed `text`, a string [1]."),
}


def write(source: Source, bundle: Path, settings: Release) -> tuple[dict[str, Any], dict[str, str]]:
    """Write the forms that are asked for; see `forms.TargetForms`."""
    forms, left_out = onnx_cpu.write(source, bundle, settings)
    if "hf" in settings.forms:
        forms["hf"] = hugging_face.write(source, bundle)
    else:
        left_out["hf"] = NOT_ASKED
    reason = source.tokenization.why_not_bert() if "text" in settings.forms else NOT_ASKED
    if reason:
        left_out["text"] = reason
    else:
        forms["text"] = {"path": text_form.write(source, bundle)}
    return forms, left_out


def clients(form: str, source: Source) -> list[Client]:
    """Return the oldest version of each client that was seen to answer rightly, and how that is known."""
    match form:
        case "hf":
            return [
                client("Transformers.js", "4.3.1", f"{FIFTY}, in Node and in Chromium; older ones were not tried"),
                client("Optimum", "2.1.0", f"{FIFTY}, with transformers 4.57.6; older ones were not tried"),
                client("onnxruntime-web", "1.30.0", f"{FIFTY}, in Chromium; older ones were not tried"),
            ]
        case "text":
            return [client("onnxruntime-extensions", "0.15.2", f"{FIFTY}; older ones were not tried")]
    return onnx_cpu.clients(form, source)
