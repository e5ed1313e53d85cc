"""Convert a compressed checkpoint to a platform's format, before any precision is chosen.

Reads: a compressed checkpoint.
Writes: the platform's file(s), `signature.json`, `manifest.json`.
Why: toolchains are slow; every precision of a platform starts from this one cached intermediate.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from stages.core import artifact, cli
from stages.core.params import Section
from stages.core.process import quiet
from stages.schema.task import Task
from stages.schema.variant import Target
from stages.targets import registry
from stages.targets.facts import facts


class Params(Section):
    """Shapes to serve, and the target's own knobs."""

    task: Task
    target: Target


def run(settings: Params, checkpoint: Path, out: Path) -> None:
    """Convert; the toolchain's own messages go to a log beside `out`."""
    artifact.require(checkpoint)
    with (
        artifact.writing(
            out,
            stage="convert",
            parents={"compressed": checkpoint},
            params=settings,
            tools=(*facts(settings.target.name).CONVERTED_WITH, "transformers"),
        ) as temporary,
        quiet(out.with_suffix(".log")),
    ):
        registry.convert(settings.target.name).convert(checkpoint, settings.task, settings.target, temporary)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.stage(__doc__, argv, run, Params, "checkpoint", "out", keys={"target": "targets.{target}"})


if __name__ == "__main__":
    sys.exit(main())
