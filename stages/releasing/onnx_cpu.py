"""What any ONNX artifact ships as: itself, and ONNX Runtime's own format; and who was seen to take it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.releasing import ort_form
from stages.releasing.forms import NOT_ASKED, Client, Form, client
from stages.releasing.source import Source
from stages.schema.release import Release
from stages.schema.variant import Mixed, Precision, WeightOnly
from stages.targets.onnx_cpu import graph

FORMS = {
    "onnx": Form("ONNX Runtime."),
    "ort": Form(
        "a build of ONNX Runtime with the operators of `ort/required_operators.config`, made by its "
        "`--include_ops_by_config`; a full build takes it too."
    ),
}
AS_NOW = "50 of 50 answers as in ONNX Runtime 1.32.0"
TRIED_OPSET = 20


def write(source: Source, bundle: Path, settings: Release) -> tuple[dict[str, Any], dict[str, str]]:
    """Write the forms that are asked for; see `forms.TargetForms`."""
    forms = {"onnx": {"path": graph.MODEL}}
    reason = ort_form.why_not(source.precision) if "ort" in settings.forms else NOT_ASKED
    return (forms, {"ort": reason}) if reason else ({**forms, "ort": ort_form.write(source, bundle)}, {})


def clients(form: str, source: Source) -> list[Client]:
    """Return the oldest version of each client that was seen to answer rightly, and how that is known."""
    opset = _opset(source)
    if opset != TRIED_OPSET:
        return [client("ONNX Runtime", "unknown", f"opset {opset}; tried with opset {TRIED_OPSET} alone")]
    return [_oldest(form, source.precision)]


def _opset(source: Source) -> int:
    """Of the artifact, which the gate has compared with the converted model's."""
    model = graph.load(source.artifact / graph.MODEL)
    return int(next(item.version for item in model.opset_import if not item.domain))


def _oldest(form: str, precision: Precision) -> Client:
    """Tried: 1.17.3 to 1.29.0. A mixture is named as if its tables had 4 bits, which it may not have chosen."""
    parts = (precision.low, precision.high) if isinstance(precision, Mixed) else (precision,)
    if not any(isinstance(part, WeightOnly) and part.weight_bits == 4 for part in parts):
        return client("ONNX Runtime", "1.18.1", f"{AS_NOW}, at opset 20; 1.17.3 refuses")
    if form == "ort" and not (isinstance(precision, Mixed) and precision.among == "tables"):
        return client("ONNX Runtime", "1.29.0", f"{AS_NOW}; 1.27.0 refuses: its 4-bit product has other inputs")
    return client("ONNX Runtime", "1.23.2", f"{AS_NOW}; 1.22.1 refuses: it knows no 4-bit tables")
