"""Write the report: one self-contained page, and the data files of DVC plots.

Reads: verdicts; parity and benchmark of every chosen variant, the references, teacher, student and data, and the
    manifests of everything between them.
Writes: `index.html`, `pareto.json`, `gaps.json`, `manifest.json`.
Why: a verdict is believed when its evidence stands beside it; the page can be mailed and needs no network.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from stages.core import artifact, cli
from stages.core.params import Section
from stages.reporting import evidence, page
from stages.schema.layout import place
from stages.schema.variant import Variant


class Params(Section):
    """The chosen variants; leftovers of others never enter the report."""

    variants: dict[str, Variant]


def run(settings: Params, build: Path, verdicts: Path, out: Path) -> None:
    """Read the evidence and write the page.

    Args:
        settings: the chosen variants.
        build: directory of all stage outputs.
        verdicts: what the gate wrote.
        out: the report's directory.

    Raises:
        ArtifactError: a piece of evidence is missing, altered, or not what the verdicts were judged from.
    """
    found = evidence.load(settings.variants, build, verdicts)
    parents = {**{role: place(build, role) for role in ("data", "student", "teacher")}, "verdicts": verdicts}
    with artifact.writing(out, stage="report", parents=parents, params=settings, tools=("Jinja2",)) as temporary:
        (temporary / "index.html").write_text(page.render(found), encoding="utf-8")
        page.write_data(found, temporary)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.stage(__doc__, argv, run, Params, "build", "verdicts", "out")


if __name__ == "__main__":
    sys.exit(main())
