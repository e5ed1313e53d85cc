"""Name the layer at which each failing variant first departs from its checkpoint.

Reads: verdicts; of what fails also the artifact, its checkpoint, its reference and what parity measured.
Writes: `explained.json`, without entries where nothing failed.
Why: the gate judges from what was measured alone, and is cheap enough to rerun for every edit of a threshold; this runs
    broken artifacts beside torch, and only where somebody will ask why.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.core import cli
from stages.gating import explained
from stages.schema import verdict
from stages.schema.layout import behind
from stages.targets import divergence


def run(build: Path, verdicts: Path, out: Path) -> None:
    """Follow what failed.

    Args:
        build: directory with `artifact/`, `compressed/`, `reference/` and `parity/`.
        verdicts: what the gate wrote.
        out: where the explanations go.
    """
    entries = verdict.read(verdicts)
    explained.write(out, verdicts, divergence.locate(_failing(build, entries)))


def _failing(build: Path, entries: Mapping[str, verdict.Entry]) -> dict[str, divergence.Case]:
    """Say where what failed lies, and what it should have been."""
    cases = {}
    for key, entry in entries.items():
        if entry["verdict"] == "fail":
            places = behind(build, key, entry["compression"], entry["target"])
            cases[key] = divergence.Case(
                target=entry["target"],
                artifact=places["artifact"],
                checkpoint=places["compressed"],
                reference=places["reference"],
                parity=places["parity"],
            )
    return cases


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.stage(__doc__, argv, run, None, "build", "verdicts", "out")


if __name__ == "__main__":
    sys.exit(main())
