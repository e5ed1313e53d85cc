"""Released ONNX variants, their tokenizer and onnxruntime-web in one page that classifies what is typed into it.

The page opens from a file as well as from a server. Everything in it is compressed text, and its policy lets no request
leave it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from stages import reporting
from stages.core import artifact
from stages.reporting import templates, wording
from stages.reporting.demo import Shown

SOURCES = Path(__file__).parent
NEEDED = "a Hugging Face directory, of onnx-cpu"
"""What a bundle must have to be shown."""
MODULES = {
    "onnxruntime": "onnxruntime-web/dist/ort.wasm.bundle.min.mjs",
    "tokenizers": "@huggingface/tokenizers/dist/tokenizers.min.mjs",
    "wasm": "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
}
"""What the page runs → where npm puts it."""
GOLDEN = 16
"""Golden inputs the page checks every variant with before it shows it."""


def find(release: Path) -> list[Shown]:
    """Return the bundles that the page can run, in the order of their names."""
    return [_shown(path) for path in sorted(release.glob("*/hf/onnx/*.onnx"))]


def render(shown: Sequence[Shown], modules: Path) -> str:
    """Return the page as HTML; the same bundles and modules give the same bytes.

    Args:
        shown: at least one variant.
        modules: `node_modules`.
    """
    files = {name: modules / path for name, path in MODULES.items()} | {item.key: item.model for item in shown}
    first = shown[0].model.parents[1]
    data = {
        "config": artifact.read_json(first / "tokenizer_config.json"),
        "labels": artifact.read_json(first.parent / "labels.json"),
        "tokenizer": artifact.read_json(first / "tokenizer.json"),
        "variants": [item.facts for item in shown],
    }
    styles = (Path(reporting.__file__).with_name("page.css"), SOURCES / "demo.css")
    style = "\n".join(path.read_text(encoding="utf-8").strip() for path in styles)
    script = (SOURCES / "demo.js").read_text(encoding="utf-8").strip()
    environment = templates.environment(SOURCES)
    environment.filters["percent"] = wording.percent
    context = {
        # `<` cannot end the block it stands in once it is written as JSON's \u003c.
        "data": Markup(json.dumps(data, sort_keys=True).replace("<", "\\u003c")),  # noqa: S704
        "files": {name: pack(path) for name, path in files.items()},
        "labels": len(data["labels"]),
        "policy": _policy(style, script),
        "script": Markup(script),  # noqa: S704 (ours, and the policy's hash covers exactly these bytes)
        "style": Markup(style),  # noqa: S704
        "variants": shown,
    }
    return environment.get_template("demo.html.j2").render(context) + "\n"


def pack(path: Path) -> str:
    """Compress a file into text, the same each time."""
    return base64.b64encode(gzip.compress(path.read_bytes(), 9, mtime=0)).decode()


def _policy(style: str, script: str) -> str:
    """Allow the page's own script, the two modules it carries and their WebAssembly, and no request at all."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; "
        f"script-src 'sha256-{hashes[1]}' blob: 'wasm-unsafe-eval'; img-src data:"
    )


def _shown(model: Path) -> Shown:
    bundle = model.parents[2]
    verdict = artifact.read_json(bundle / "verdict.json")
    golden = artifact.read_arrays(bundle / "golden.npz")
    answers = golden["artifact_logits"][:GOLDEN].argmax(axis=-1)
    masks = golden["attention_mask"][:GOLDEN] == 1
    rows = [ids[mask].tolist() for ids, mask in zip(golden["input_ids"][:GOLDEN], masks, strict=True)]
    facts = {
        "accuracy": verdict["metrics"]["accuracy"],
        "golden": [{"answer": int(answer), "ids": ids} for ids, answer in zip(rows, answers, strict=True)],
        "interval": [float(end) for end in np.asarray(verdict["intervals"]["accuracy"])],
        "key": bundle.name,
        "max_length": artifact.read_json(bundle / "signature.json")["sequence_lengths"][-1],
        "n": int(verdict["metrics"]["n"]),
        "size_bytes": model.stat().st_size,
    }
    return Shown(bundle.name, model, facts)
