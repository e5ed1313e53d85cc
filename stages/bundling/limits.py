"""`limits.json`: what an input may be, and which clients were seen to answer rightly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.bundling.source import Source
from stages.core import artifact
from stages.schema.variant import Dynamic, Mixed, Precision, Static, WeightOnly
from stages.targets.onnx_cpu import graph

LIMITS = "limits.json"
TRUNCATION = (
    "Tokens beyond max_length are cut from the end of the text, before the special tokens are added: every input ends "
    "in the separator."
)
TRANSFORMERS_JS = (
    "Transformers.js 4.3.1 cuts after adding the special tokens: an input that was too long ends in the middle of the "
    "text. Its answer to such texts may differ from everyone else's."
)
AS_NOW = "50 of 50 answers as in ONNX Runtime 1.32.0"
ALIKE = "50 of 50 answers as in LiteRT 2.3.0"
TRIED_OPSET = 20
FIFTY = "50 of 50 CLINC150 utterances as in torch"

Client = dict[str, str]


def write(source: Source, forms: Mapping[str, Any], left_out: Mapping[str, str], bundle: Path) -> None:
    """Write the limits.

    Args:
        source: the variant.
        forms: form → `path` in the bundle and what else a client must be told.
        left_out: form → why the bundle does not have it.
        bundle: directory to write into.
    """
    signature = source.signature
    described = {name: {**form, "clients": clients(name, source)} for name, form in forms.items()}
    artifact.write_json(
        bundle / LIMITS,
        {
            "forms": described,
            "inputs": signature.inputs,
            "labels": len(source.labels),
            "left_out": dict(left_out),
            "max_length": source.max_length,
            "outputs": signature.outputs,
            "padded": not signature.dynamic,
            "sequence_lengths": signature.sequence_lengths,
            "special_tokens": {
                role: {"id": index, "token": token} for role, (token, index) in source.tokenization.special.items()
            },
            "truncation": {"rule": TRUNCATION, "transformers_js": TRANSFORMERS_JS},
            "variant": source.key,
        },
    )


def clients(form: str, source: Source) -> list[Client]:
    """Return the oldest version of each client that was seen to answer rightly, and how that is known."""
    match form:
        case "hf":
            return [
                _client("Transformers.js", "4.3.1", f"{FIFTY}, in Node and in Chromium; older ones were not tried"),
                _client("Optimum", "2.1.0", f"{FIFTY}, with transformers 4.57.6; older ones were not tried"),
                _client("onnxruntime-web", "1.30.0", f"{FIFTY}, in Chromium; older ones were not tried"),
            ]
        case "text":
            return [_client("onnxruntime-extensions", "0.15.2", f"{FIFTY}; older ones were not tried")]
        case "litert_task":
            return [
                _client("MediaPipe Tasks (Python)", "1.2.2", "all 4,500 CLINC150 utterances as in torch in fp32"),
                _client("MediaPipe Tasks (web)", "1.0.1", f"{FIFTY}, in Chromium; older ones were not tried"),
                _client("MediaPipe Tasks (Android, iOS)", "unknown", "the same file; not run"),
                _client("LiteRT.js", "2.5.3", "the sample page, in Chromium; older ones were not tried"),
            ]
        case "litert":
            web = _client("LiteRT.js", "2.5.3", f"{FIFTY} at fp32 and dynamic int8; older ones were not tried")
            return [_oldest_litert(source.precision), web]
        case "coreml" | "mlpackage":
            return [
                _client("Core ML", "the package's deployment target", "not run by Core ML unless the verdict says so")
            ]
    opset = _opset(source)
    if opset != TRIED_OPSET:
        return [_client("ONNX Runtime", "unknown", f"opset {opset}; tried with opset {TRIED_OPSET} alone")]
    return [_oldest_onnx_runtime(form, source.precision)]


def _opset(source: Source) -> int:
    """Of the artifact, which the gate has compared with the converted model's."""
    model = graph.load(source.artifact / graph.MODEL)
    return int(next(item.version for item in model.opset_import if not item.domain))


def _oldest_onnx_runtime(form: str, precision: Precision) -> Client:
    """Tried: 1.17.3 to 1.29.0. A mixture is named as if its tables had 4 bits, which it may not have chosen."""
    parts = (precision.low, precision.high) if isinstance(precision, Mixed) else (precision,)
    if not any(isinstance(part, WeightOnly) and part.weight_bits == 4 for part in parts):
        return _client("ONNX Runtime", "1.18.1", f"{AS_NOW}, at opset 20; 1.17.3 refuses")
    if form == "ort" and not (isinstance(precision, Mixed) and precision.among == "tables"):
        return _client("ONNX Runtime", "1.29.0", f"{AS_NOW}; 1.27.0 refuses: its 4-bit product has other inputs")
    return _client("ONNX Runtime", "1.23.2", f"{AS_NOW}; 1.22.1 refuses: it knows no 4-bit tables")


def _oldest_litert(precision: Precision) -> Client:
    """Tried: every LiteRT from 1.0.1 on with fp32 and dynamic int8, four of them with the other precisions."""
    match precision:
        case Mixed():
            both = _oldest_litert(precision.low), _oldest_litert(precision.high)
            return max(both, key=lambda one: (one["client"] == "LiteRT", one["oldest_seen_right"]))
        case Dynamic(granularity="block_32"):
            return _client("LiteRT", "2.1.0", f"{ALIKE}; LiteRT 2.0.3 refuses")
        case Static(activation_bits=16):
            return _client("LiteRT", "1.0.1", f"{ALIKE}; the first release. TensorFlow Lite 2.14.0 has no such kernels")
        case Dynamic(granularity="channel"):
            return _client("LiteRT", "1.0.1", f"{ALIKE}; the first release. TensorFlow Lite 2.14.0 refuses")
    return _client("TensorFlow Lite", "2.14.0", f"{ALIKE}, 48 at static int8; the oldest tried")


def _client(name: str, oldest: str, established: str) -> Client:
    return {"client": name, "established": established, "oldest_seen_right": oldest}
