"""The forms of a language model's TFLite artifact, and who was seen to take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.releasing import tflite_nnapi
from stages.releasing.forms import NOT_ASKED, Client, Form, client
from stages.releasing.source import Source
from stages.schema.release import Release
from stages.tasks.generate.forms import litertlm, rules

FORMS = {
    "litert": Form(
        "LiteRT: signatures `decode` (one token) and `prefill_N` (N tokens, no answer), which take and give the keys "
        "and values of the whole text."
    ),
    "litertlm": Form(
        "`samples/generate_litertlm.py`: LiteRT-LM (Python, Android, iOS), text in, streamed text out.",
        ("generate_litertlm.py",),
    ),
}


def write(source: Source, bundle: Path, settings: Release) -> tuple[dict[str, Any], dict[str, str]]:
    """Write the forms that are asked for; see `releasing.forms.TargetForms`."""
    forms, left_out = tflite_nnapi.write(source, bundle, settings)
    generation = rules.limits(source)["generation"]
    reason = litertlm.why_not(generation) if "litert" in settings.forms else NOT_ASKED
    if reason:
        return forms, {**left_out, "litertlm": reason}
    path = litertlm.write(bundle, forms["litert"]["path"], generation, source.max_length)
    return {**forms, "litertlm": {"path": path}}, left_out


def clients(form: str, source: Source) -> list[Client]:  # noqa: ARG001 (the same of every precision)
    """Return the oldest version of each client that was seen to answer rightly, and how that is known."""
    older = "older ones were not tried"
    if form == "litertlm":
        return [
            client(
                "LiteRT-LM (Python)", "0.18.1", f"the reference's greedy text at fp32, to the end of the room; {older}"
            ),
            client("LiteRT-LM (Android, iOS)", "unknown", "the same file; not run"),
        ]
    return [client("LiteRT", "2.3.0", f"the checkpoint's answers at every position; {older}")]
