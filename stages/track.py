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
from stages.schema import verdict
from stages.schema.layout import HOST
from stages.targets.facts import runtimes
from stages.tracking import fetch, place, record, store
from stages.tracking import tracked as readback
from stages.tracking.errors import TrackingRefused


def run(build: Path, verdicts: Path, report: Path, params_file: Path, tracked: Path) -> None:
    """Publish what is not there yet, or not as this build would write it.

    MLFLOW_TRACKING_URI chooses the server or database (default: mlruns/mlflow.db), MLFLOW_EXPERIMENT_NAME the
    experiment (default: tinsmith). With TINSMITH_TRACKING=later a place that cannot be used is recorded and stops
    nothing; the next run without it writes what is missing.

    Raises:
        ArtifactError: the build's latencies were taken on another host than this one.
        TrackingRefused: that server or database cannot be used.
    """
    _check_host(build / HOST)
    where, later = place.choose(os.environ), place.may_wait(os.environ)
    fetch.lay_out(build, verdict.read(verdicts))
    found = record.collect(build, verdicts, report, params_file, params.read(params_file))
    known = readback.knows(build, where, found.fingerprint)
    written: list[str] = []
    if not readback.is_whole(build, where, found.fingerprint):
        fingerprints = [found.fingerprint, *(variant.fingerprint for variant in found.variants)]
        try:
            with place.opened(where), process.quiet(build / "track.log"):
                written = store.publish(where, found, deep=not known)
                artifact.write_json(tracked, readback.take(build, where, found.fingerprint, fingerprints, written))
        except TrackingRefused as refused:
            if not later:
                raise
            if not known:
                pending = readback.wait(build, where, found.fingerprint, fingerprints, refused.reason)
                artifact.write_json(tracked, pending)
            print(f"warning: not tracked yet: {refused}", file=sys.stderr)
            return
    print(f"MLflow: wrote {', '.join(written)}" if written else f"MLflow has this build ({found.fingerprint[:8]})")


def _check_host(described: Path) -> None:
    """Refuse a workspace that moved, where this stage is run by itself: no latency is passed on silently."""
    there, here = artifact.read_json(described), process.host_fingerprint(runtimes())
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
