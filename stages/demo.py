"""Write the page in which released models answer what is typed into it, in the browser and offline.

Reads: the bundles that their task's page can run; onnxruntime-web and tokenizers where npm put them.
Writes: `build/demo/index.html`, one self-contained page, and a manifest that names the bundles in it.
Why: who decides about a model wants to try it. A command for people (`make demo`), since it carries a client's code.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from stages.core import artifact, cli
from stages.core.errors import ArtifactError
from stages.reporting import demo
from stages.targets.base import read_signature
from stages.tasks import registry as tasks


def run(release: Path, modules: Path, out: Path) -> None:
    """Write the page.

    Args:
        release: directory of the bundles.
        modules: `node_modules`.
        out: the page's directory.

    Raises:
        ArtifactError: no bundle can be shown, or the client's code is not installed.
    """
    bundles = sorted(release.glob(f"*/{artifact.MANIFEST}"))
    if not bundles:
        raise ArtifactError(f"'{release}' has no bundle", next_step="run `dvc repro`")
    task = read_signature(bundles[0].parent).task  # there is one in a build
    if not tasks.offers(task, "page"):
        raise ArtifactError(f"no page runs a model of task '{task}'", next_step="ask a client: `make clients`")
    page = demo.of_task(task)
    missing = [path for path in demo.MODULES.values() if not (modules / path).is_file()]
    if missing:
        raise ArtifactError(f"'{modules / missing[0]}' is not installed", next_step="run `make demo`")
    shown = demo.find(page, release)
    if not shown:
        raise ArtifactError(
            f"no bundle in '{release}' can be shown", expected=f"one with {demo.NEEDED}", next_step="run `dvc repro`"
        )
    parents = {item.key: release / item.key for item in shown}
    with artifact.writing(out, stage="demo", parents=parents, tools=("Jinja2",)) as temporary:
        (temporary / "index.html").write_text(demo.render(page, shown, modules), encoding="utf-8")
    size = (out / "index.html").stat().st_size
    print(f"{out / 'index.html'}: {len(shown)} variant(s), {size / 1e6:.1f} MB; open it in a browser, no server needed")


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.stage(__doc__, argv, run, None, "release", "modules", "out")


if __name__ == "__main__":
    sys.exit(main())
