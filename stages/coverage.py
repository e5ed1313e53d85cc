"""Say which operators of an artifact each accelerator takes, and why it refuses the others.

Reads: the artifact.
Writes: `metrics.json` (operators in order; by accelerator the shares and partitions, and what is refused, why, and
    what would cure it), `manifest.json`.
Why: an operator that falls back to the CPU costs a phone more than any precision gains, and no device is needed to
    tell.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from stages.accelerators.covering import cover
from stages.core import artifact, cli
from stages.core.errors import ArtifactError
from stages.schema.covered import Coverage


def run(target: str, artifact_dir: Path, out: Path) -> None:
    """Read whatever bytes lie in `artifact_dir`, broken ones too: parity says that they are, and the gate judges."""
    try:
        found = cover(target, artifact_dir)
    except ArtifactError as error:
        found = Coverage(status="failed", reason=str(error), target=target)
    with artifact.writing(out, stage="coverage", parents={"artifact": artifact_dir}) as temporary:
        artifact.write_json(temporary / "metrics.json", found)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = cli.parser(__doc__, "artifact", "out")
    parser.add_argument("--target", required=True)
    return cli.execute(parser, argv, lambda arguments: run(arguments.target, arguments.artifact, arguments.out))


if __name__ == "__main__":
    sys.exit(main())
