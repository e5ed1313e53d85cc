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
from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.asking import record as clients
from stages.core import artifact, cli, process
from stages.core.errors import ReleaseRefused
from stages.core.params import Section
from stages.schema.clients import Clients
from stages.schema.layout import CLIENTS, PLACES
from stages.tracking import place, record, store, tracked
from stages.tracking.content import PARAM_LIMIT
from stages.tracking.errors import TrackingRefused

Tags = Mapping[str, Mapping[str, str]]
"""Variant → what its version says of the bundle."""


class Params(Section):
    """Which clients must have answered as the artifact did."""

    clients: Clients


def chains(release: Path) -> dict[str, dict[str, str]]:
    """Return variant → stage → sha256 of that stage's manifest, of every bundle."""
    bundles = sorted(path.parent for path in release.glob(f"*/{artifact.MANIFEST}"))
    found = {}
    for bundle in bundles:
        parents = artifact.manifest(bundle)["parents"]
        found[bundle.name] = {stage: parents[stage] for stage in PLACES}
    return found


def answers(release: Path) -> dict[str, dict[str, str]]:
    """Return variant → the tag of its version that says what clients answered, for bundles that one was asked about."""
    known = clients.read(release.parent / CLIENTS)
    said = {key: clients.summary(clients.current(known, release / key)) for key in chains(release)}
    return {key: {"clients": text[:PARAM_LIMIT]} for key, text in said.items() if text}


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
    where, later = place.choose(os.environ), place.may_wait(os.environ)
    refused = clients.objections(settings.clients, release, clients.read(release.parent / CLIENTS))
    bundles = {key: chain for key, chain in chains(release).items() if key not in refused}
    try:
        print(_move(where, bundles, answers(release), release.parent, out))
    except TrackingRefused as refusal:
        if not later:
            raise
        artifact.write_json(out, {"database": None, "pending": refusal.reason})
        print(f"warning: `released` is not moved yet: {refusal}", file=sys.stderr)
    if refused:
        said = "; ".join(f"'{key}': {', '.join(why)}" for key, why in refused.items())
        raise ReleaseRefused(f"{len(refused)} bundle(s) are not promoted: {said}", next_step="run `make clients`")


def _move(where: place.Place, bundles: Mapping[str, Mapping[str, str]], tags: Tags, build: Path, out: Path) -> str:
    """Move the alias where it stands elsewhere; what to say of it."""
    earlier = artifact.read_json(out) if out.is_file() else {"database": None}
    moved: list[str] = []
    if where.job:
        artifact.write_json(out, earlier)
        return f"MLflow: {where.job} is not the workspace's build, `released` stays where it is"
    if not (where.database and tracked.untouched(build, where) and _stands(where, where.database, bundles, tags)):
        with place.opened(where), process.quiet(build / "promote.log"):
            before = place.digest(where)
            moved = store.promote(where, bundles, tags)
            after = place.digest(where)
        if after != before:
            first = earlier["database"]
            before = first["before"] if first and first["after"] == before else before
            earlier = {"database": {"after": after, "before": before}}
    artifact.write_json(out, {"database": earlier["database"]})
    return f"MLflow: released {', '.join(moved)}" if moved else "MLflow: `released` stands where it should"


def _stands(where: place.Place, database: Path, bundles: Mapping[str, Mapping[str, str]], tags: Tags) -> bool:
    said = {key: {stage: sha[: record.SHORT] for stage, sha in chain.items()} for key, chain in bundles.items()}
    return place.released(database, where.experiment, {key: said[key] | dict(tags.get(key, {})) for key in said})


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.stage(__doc__, argv, run, Params, "release", "promoted")


if __name__ == "__main__":
    sys.exit(main())
