"""What any TFLite artifact ships as: itself, or a copy that too old runtimes refuse; and who was seen to take it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.releasing import litert
from stages.releasing.forms import FIFTY, Client, Form, client
from stages.releasing.source import Source
from stages.schema.release import Release
from stages.schema.variant import Dynamic, Mixed, Precision, Static
from stages.targets.tflite_nnapi.flatbuffer import MODEL

FORMS = {"litert": Form("LiteRT, one signature per length.")}
ALIKE = "50 of 50 answers as in LiteRT 2.3.0"


def write(source: Source, bundle: Path, settings: Release) -> tuple[dict[str, Any], dict[str, str]]:
    """Write the form that is asked for; see `forms.TargetForms`."""
    return {"litert": {"path": litert.write(source, bundle) if "litert" in settings.forms else MODEL}}, {}


def clients(form: str, source: Source) -> list[Client]:  # noqa: ARG001
    """Return the oldest version of each client that was seen to answer rightly, and how that is known."""
    web = client("LiteRT.js", "2.5.3", f"{FIFTY} at fp32 and dynamic int8; older ones were not tried")
    return [_oldest(source.precision), web]


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
