"""Publish a build to MLflow, failing variants included, once.

Reads: verdicts, the report, manifests of every stage in each variant's chain, params.yaml.
Writes: a parent run, a child run and a logged model per variant, versions of passing ones; and what MLflow answers when
    asked for them again, for whoever audits its record later.
Why: a stage restored from DVC's cache runs no command and would log nothing. This one runs on every repro, asks
whether the content is already there, and adds only what is missing: a deleted database is refilled.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from stages.core import artifact, cli, params, process
from stages.core.errors import ArtifactError
from stages.lineage import recorded
from stages.tracking import fetch, place, record, store


def run(build: Path, verdicts: Path, report: Path, params_file: Path, tracked: Path) -> None:
    """Publish what is not there yet.

    MLFLOW_TRACKING_URI chooses the server or database (default: mlruns/mlflow.db), MLFLOW_EXPERIMENT_NAME the
    experiment (default: tinsmith).

    Raises:
        ArtifactError: the build's latencies were taken on another host than this one.
        TrackingRefused: that server or database cannot be used.
    """
    _check_host(build / "host.json")
    where = place.choose(os.environ)
    chosen = params.read(params_file)
    fetch.lay_out(build, params.select(chosen, "plan"))
    found = record.collect(build, verdicts, report, params_file, chosen)
    fingerprints = [found.fingerprint, *(variant.fingerprint for variant in found.variants)]
    written: list[str] = []
    known = recorded.knows(tracked, where, found.fingerprint)
    if not (known and where.database and place.holds(where.database, where.experiment, fingerprints)):
        with place.opened(where), process.quiet(build / "track.log"):
            written = store.publish(where, found)
            if written or not known:
                artifact.write_json(tracked, recorded.take(where, found.fingerprint, fingerprints))
    print(f"MLflow: wrote {', '.join(written)}" if written else f"MLflow has this build ({found.fingerprint[:8]})")


def _check_host(described: Path) -> None:
    """Refuse a workspace that moved, where this stage is run by itself: no latency is passed on silently."""
    there, here = artifact.read_json(described), process.host_fingerprint()
    changed = [key for key in sorted(there | here) if there.get(key) != here.get(key)]
    if changed:
        raise ArtifactError(
            f"'{described}' describes another host ({', '.join(changed)} differ): latencies were measured there",
            next_step="run `dvc repro`, which describes this one and measures again",
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = cli.parser(__doc__, "build", "verdicts", "report", "tracked")
    return cli.execute(
        parser,
        argv,
        lambda arguments: run(
            arguments.build, arguments.verdicts, arguments.report, arguments.params, arguments.tracked
        ),
        outputs=("tracked",),
    )


if __name__ == "__main__":
    sys.exit(main())
