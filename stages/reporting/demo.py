"""A page in which a released model can be tried: what one shows, and the part `page` of a task that makes it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from markupsafe import Markup

from stages.core import artifact
from stages.reporting import templates, wording
from stages.tasks import registry as tasks

MODULES = {
    "onnxruntime": "onnxruntime-web/dist/ort.wasm.bundle.min.mjs",
    "tokenizers": "@huggingface/tokenizers/dist/tokenizers.min.mjs",
    "wasm": "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
}
"""What a page that runs ONNX models needs → where npm puts it."""
NEEDED = "a Hugging Face directory, of onnx-cpu"
"""What a bundle must have to be shown on one."""
TOKENIZER = {"config": "tokenizer_config", "tokenizer": "tokenizer"}
"""What the script calls the files of a tokenizer."""
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Shown:
    """A variant on the page.

    Attributes:
        model: the file that the page runs.
        facts: what the page says of it and checks it with.
    """

    model: Path
    facts: dict[str, Any]

    @property
    def key(self) -> str:
        """Its name."""
        return self.model.parents[2].name


class TaskPage(Protocol):
    """The part `page` of a task, which one has whose models a browser can run.

    Its folder holds `page.html.j2`, `demo.css` and `demo.js`, which are joined with what stands here.
    """

    __file__: str

    def facts(self, bundle: Path) -> dict[str, Any]:
        """Return what the page says of a variant and checks it with, beside its name and size."""

    def content(self, bundle: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what the page's script reads beside tokenizer and variants, and what else its template shows."""


def of_task(task: str) -> TaskPage:
    """Import the page of a task."""
    found: TaskPage = tasks.page(task)
    return found


def find(part: TaskPage, release: Path) -> list[Shown]:
    """Return the bundles in a directory that such a page can run, in the order of their names."""
    found = []
    for model in sorted(release.glob("*/hf/onnx/*.onnx")):
        bundle = model.parents[2]
        found.append(Shown(model, {**part.facts(bundle), "key": bundle.name, "size_bytes": model.stat().st_size}))
    return found


def render(part: TaskPage, shown: Sequence[Shown], modules: Path) -> str:
    """Put a page together that opens from a file as well as from a server, and whose policy lets no request leave it.

    Args:
        part: the task's.
        shown: the variants on it, one at least.
        modules: `node_modules`.

    Returns:
        HTML; the same bundles and modules give the same bytes.
    """
    sources, first = Path(part.__file__).parent, shown[0].model.parents[1]
    data, context = part.content(first.parent)
    data |= {name: artifact.read_json(first / f"{file}.json") for name, file in TOKENIZER.items()}
    files = {name: modules / path for name, path in MODULES.items()} | {item.key: item.model for item in shown}
    # The shared style comes last: it makes one column of a task's two where a page is narrow.
    style = _joined(HERE / "page.css", sources / "demo.css", HERE / "demo.css")
    script = _joined(HERE / "demo.js", sources / "demo.js")
    environment = templates.environment(sources, HERE)
    environment.filters["percent"] = wording.percent
    told = {**data, "variants": [item.facts for item in shown]}
    page = {
        # `<` cannot end the block it stands in once it is written as JSON's \\u003c.
        "data": Markup(json.dumps(told, sort_keys=True).replace("<", "\\u003c")),  # noqa: S704
        "files": {name: pack(path) for name, path in files.items()},
        "policy": _policy(style, script),
        "script": Markup(script),  # noqa: S704 (ours, and the policy's hash covers exactly these bytes)
        "style": Markup(style),  # noqa: S704
        "variants": shown,
    }
    return environment.get_template("page.html.j2").render(page | context) + "\n"


def _joined(*paths: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8").strip() for path in paths)


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
