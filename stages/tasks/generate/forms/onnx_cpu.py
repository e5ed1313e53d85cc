"""The forms of a language model's ONNX artifact, and who was seen to take them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.core.names import GENERATION
from stages.releasing import hugging_face
from stages.releasing.forms import NOT_ASKED, Client, Form, client
from stages.releasing.hugging_face import FOLDER
from stages.releasing.source import Source
from stages.schema.release import Release
from stages.targets.onnx_cpu import graph
from stages.tasks.generate.forms import genai, rules


def name(source: Source) -> str:
    """Return where the graph lies in `hf/`, as Transformers.js looks for it."""
    return f"onnx/model{hugging_face.suffix(source.precision)[1]}.onnx"


FORMS = {
    "onnx": Form(
        "`samples/generate_onnx.py`: ONNX Runtime with the `tokenizers` library, text in, streamed text out.",
        ("generate_onnx.py",),
    ),
    "hf": Form(
        "`samples/generate.mjs` (Node) and `samples/generate.html` (browser): Transformers.js, no network. "
        "`samples/Generate.kt`: onnxruntime-android.",
        ("generate.mjs", "generate.html", "Generate.kt"),
        configured=FOLDER,
        files=lambda source: {f"{FOLDER}/{GENERATION}": rules.config(source)},
    ),
    "genai": Form(
        "`samples/generate_genai.py`: onnxruntime-genai, which takes the directory.",
        ("generate_genai.py",),
        files=lambda source: {f"{FOLDER}/{genai.CONFIG}": genai.config(source, name(source))},
    ),
}
ORT = "no language model was tried in this format yet"
TEXTS = "greedy text of stories260k to the last token"
PACKED = "q4"
LOOKUP = "in browsers it refuses, because its own WebAssembly has no lookup in blocks (GatherBlockQuantized)"


def write(source: Source, bundle: Path, settings: Release) -> tuple[dict[str, Any], dict[str, str]]:
    """Write the forms that are asked for; see `releasing.forms.TargetForms`."""
    forms: dict[str, Any] = {"onnx": {"path": graph.MODEL}}
    left_out = {"ort": ORT if "ort" in settings.forms else NOT_ASKED}
    if "hf" not in settings.forms:
        return forms, left_out | dict.fromkeys(("hf", "genai"), NOT_ASKED)
    dtype, _ = hugging_face.suffix(source.precision)
    path = bundle / FOLDER / name(source)
    path.parent.mkdir(parents=True)
    shutil.copyfile(source.artifact / graph.MODEL, path)
    source.configure(bundle / FOLDER)
    forms["hf"] = {"dtype": dtype, "path": f"{FOLDER}/{name(source)}"}
    if reason := genai.why_not(source):
        return forms, left_out | {"genai": reason}
    return {**forms, "genai": {"path": f"{FOLDER}/{genai.CONFIG}"}}, left_out


def differences(bundle: Path) -> Iterator[str]:
    """Name a graph in `hf/` that is not the artifact, byte for byte."""
    for path in sorted(bundle.glob(f"{FOLDER}/onnx/*")):
        if path.read_bytes() != (bundle / graph.MODEL).read_bytes():
            yield f"'{path.relative_to(bundle).as_posix()}' is not '{graph.MODEL}'"


def clients(form: str, source: Source) -> list[Client]:
    """Return the oldest version of each client that was seen to answer rightly, and how that is known."""
    older = "older ones were not tried"
    match form:
        case "hf":
            where = (
                f"in Node; {LOOKUP}"
                if hugging_face.suffix(source.precision)[0] == PACKED
                else "in Node and in Chromium"
            )
            return [
                client("Transformers.js", "4.3.1", f"{TEXTS}, {where}; {older}"),
                client("onnxruntime-web", "1.30.0", f"{TEXTS}, in Chromium; {older}"),
            ]
        case "genai":
            return [client("onnxruntime-genai", "0.18.0", f"{TEXTS}; {older}")]
    return [client("ONNX Runtime", "1.32.0", f"{TEXTS}; {older}")]
