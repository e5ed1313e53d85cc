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

from stages.asking import record as clients
from stages.core import artifact, cli, params, process
from stages.core.errors import ReleaseRefused
from stages.core.params import Section
from stages.schema.clients import Clients
from stages.tracking import place, record, store


class Params(Section):
    """Which clients must have answered as the artifact did."""

    clients: Clients


def chains(release: Path) -> dict[str, dict[str, str]]:
    """Return variant → stage → sha256 of that stage's manifest, as a version's tags hold it, of every bundle."""
    bundles = sorted(path.parent for path in release.glob(f"*/{artifact.MANIFEST}"))
    found = {}
    for bundle in bundles:
        parents = artifact.manifest(bundle)["parents"]
        found[bundle.name] = {stage: parents[stage][: record.SHORT] for stage in record.CHAIN}
    return found


def answers(release: Path) -> dict[str, dict[str, str]]:
    """Return variant → the tag of its version that says what clients answered, for bundles that one was asked about."""
    known = clients.read(release.parent / clients.FILE)
    said = {key: clients.summary(clients.current(known, release / key)) for key in chains(release)}
    return {key: {"clients": text[: store.PARAM_LIMIT]} for key, text in said.items() if text}


def run(settings: Params, release: Path, out: Path) -> None:
    """Move the alias where it stands elsewhere, then name the bundles that clients object to.

    Args:
        settings: which clients are required.
        release: directory of the bundles.
        out: what became of the database, sha256 before and after; written only where something changed.

    Raises:
        ReleaseRefused: a required client answers otherwise, or was not asked where conf/clients wants it asked.
        TrackingRefused: the server or database that MLFLOW_TRACKING_URI names cannot be used.
    """
    where = place.choose(os.environ)
    refused = clients.objections(settings.clients, release, clients.read(release.parent / clients.FILE))
    bundles = {key: chain for key, chain in chains(release).items() if key not in refused}
    tags = answers(release)
    wanted = {key: chain | tags.get(key, {}) for key, chain in bundles.items()}
    moved: list[str] = []
    if not (where.database and place.released(where.database, where.experiment, wanted)):
        with place.opened(where), process.quiet(release.parent / "promote.log"):
            before = place.digest(where)
            moved = store.promote(where, bundles, tags)
            after = place.digest(where)
            if after != before:
                artifact.write_json(out, {"database": {"after": after, "before": before}})
    if not out.is_file():
        artifact.write_json(out, {"database": None})
    print(f"MLflow: released {', '.join(moved)}" if moved else "MLflow: `released` stands where it should")
    if refused:
        said = "; ".join(f"'{key}': {', '.join(why)}" for key, why in refused.items())
        raise ReleaseRefused(f"{len(refused)} bundle(s) are not promoted: {said}", next_step="run `make clients`")


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = cli.parser(__doc__, "release", "promoted")
    return cli.execute(
        parser,
        argv,
        lambda arguments: run(
            params.load(Params, {"clients": "clients"}, arguments.params), arguments.release, arguments.promoted
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
