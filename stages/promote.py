"""Move MLflow's alias `released` to the versions that the bundles were made of.

Reads: the manifests of the bundles.
Writes: the alias on a version of each bundled variant's registered model; and how that changed a local database, whose
    bytes an audit compares with those that tracking left.
Why: `candidate` passed the gate; `released` lies in a bundle. Tracking comes before the release, so that a build whose
release is refused is tracked too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from stages.core import artifact, cli, process
from stages.tracking import place, record, store


def chains(release: Path) -> dict[str, dict[str, str]]:
    """Return variant → stage → sha256 of that stage's manifest, as a version's tags hold it, of every bundle."""
    bundles = sorted(path.parent for path in release.glob(f"*/{artifact.MANIFEST}"))
    found = {}
    for bundle in bundles:
        parents = artifact.manifest(bundle)["parents"]
        found[bundle.name] = {stage: parents[stage][: record.SHORT] for stage in record.CHAIN}
    return found


def run(release: Path, out: Path) -> None:
    """Move the alias where it stands elsewhere.

    Args:
        release: directory of the bundles.
        out: what became of the database, sha256 before and after; written only where an alias moved.

    Raises:
        TrackingRefused: the server or database that MLFLOW_TRACKING_URI names cannot be used.
    """
    where = place.choose(os.environ)
    bundles = chains(release)
    moved: list[str] = []
    if not (where.database and place.released(where.database, where.experiment, bundles)):
        with place.opened(where), process.quiet(release.parent / "promote.log"):
            before = place.digest(where)
            moved = store.promote(where, bundles)
            if moved:
                artifact.write_json(out, {"database": {"after": place.digest(where), "before": before}})
    if not out.is_file():
        artifact.write_json(out, {"database": None})
    print(f"MLflow: released {', '.join(moved)}" if moved else "MLflow: `released` stands where it should")


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = cli.parser(__doc__, "release", "promoted")
    return cli.execute(parser, argv, lambda arguments: run(arguments.release, arguments.promoted))


if __name__ == "__main__":
    sys.exit(main())
