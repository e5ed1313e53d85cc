"""A page in which a released model can be tried: what one shows, and the part `page` of a task that makes it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from markupsafe import Markup

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
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Shown:
    """A variant on the page.

    Attributes:
        key: its name.
        model: the file that the page runs.
        facts: what the page says of it and checks it with.
    """

    key: str
    model: Path
    facts: dict[str, Any]


class TaskPage(Protocol):
    """The part `page` of a task, which one has whose models a browser can run.

    Attributes:
        MODULES: what the page runs → where npm puts it.
        NEEDED: what a bundle must have to be shown.
    """

    MODULES: Mapping[str, str]
    NEEDED: str

    def find(self, release: Path) -> list[Shown]:
        """Return the bundles that the page can run, in the order of their names."""

    def render(self, shown: Sequence[Shown], modules: Path) -> str:
        """Return the page as HTML; the same bundles and modules give the same bytes.

        Args:
            shown: at least one variant.
            modules: `node_modules`.
        """


def of_task(task: str) -> TaskPage:
    """Import the page of a task."""
    found: TaskPage = tasks.page(task)
    return found


def graphs(release: Path) -> list[Path]:
    """Return what such a page can run of the bundles in a directory, in the order of their names."""
    return sorted(release.glob("*/hf/onnx/*.onnx"))


def written(sources: Path, shown: Sequence[Shown], modules: Path, data: Mapping[str, Any], **context: Any) -> str:
    """Put a page together that opens from a file as well as from a server, and whose policy lets no request leave it.

    Args:
        sources: directory of the task's `demo.html.j2`, `demo.css` and `demo.js`, which are joined with those here.
        shown: the variants on it.
        modules: `node_modules`.
        data: what its script reads, beside `variants`.
        context: what else its template shows.

    Returns:
        HTML; the same bundles and modules give the same bytes.
    """
    files = {name: modules / path for name, path in MODULES.items()} | {item.key: item.model for item in shown}
    # The shared style comes last: it makes one column of a task's two where a page is narrow.
    style = _joined(HERE / "page.css", sources / "demo.css", HERE / "demo.css")
    script = _joined(HERE / "demo.js", sources / "demo.js")
    environment = templates.environment(sources)
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
    return environment.get_template("demo.html.j2").render(page | context) + "\n"


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
