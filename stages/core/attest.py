"""What a manifest may not say: which code ran, at which revision, on which host, when.

A manifest holds no clock and no host, so that equal inputs give equal bytes and DVC stops where bytes are equal. The
rest stands in a second output of the same stage, an in-toto statement with a SLSA provenance predicate
(https://in-toto.io/Statement/v1, https://slsa.dev/spec/v1.0/provenance). Only the release depends on it, and DVC's
cache brings both back together. Nothing of the environment enters it beyond ENVIRONMENT.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stages.core import artifact, process, revision

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:tinsmith:stage:1"
ENVIRONMENT = ("OMP_NUM_THREADS",)
SETTINGS = ("constraints.txt", "dvc.yaml", "params.yaml")


def write(path: Path, outputs: Sequence[Path], command: Sequence[str], started: datetime) -> None:
    """Write the statement of the stage that this process just ran.

    Args:
        path: the statement.
        outputs: the stage's directories and files.
        command: what ran, as arguments.
        started: when.
    """
    manifests = {out: artifact.manifest(out) for out in outputs if out.is_dir()}
    merged = {name: _merged(manifests.values(), name) for name in ("params", "parents", "tools")}
    definition = {
        "buildType": BUILD_TYPE,
        "externalParameters": {"command": list(command), "parameters": merged["params"]},
        "internalParameters": {
            "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
            "host": process.host_fingerprint(()),
        },
        "resolvedDependencies": [
            *(_descriptor(role, sha) for role, sha in sorted(merged["parents"].items())),
            *(_descriptor(name, artifact.sha256(Path(name))) for name in SETTINGS if Path(name).is_file()),
            *_source(),
        ],
    }
    details = {
        "builder": {"id": "urn:tinsmith:dvc-stage", "version": merged["tools"]},
        "metadata": {"finishedOn": _text(datetime.now(UTC)), "startedOn": _text(started)},
    }
    artifact.write_json(
        path,
        {
            "_type": STATEMENT_TYPE,
            "predicate": {"buildDefinition": definition, "runDetails": details},
            "predicateType": PREDICATE_TYPE,
            "subject": [
                _descriptor(name, sha)
                for out in outputs
                for name, sha in sorted(_subjects(out, manifests.get(out)).items())
            ],
        },
    )


def code() -> dict[str, str]:
    """Return file → sha256 of what this process imported below stages/, with the data files beside it."""
    root = Path("stages").resolve()
    modules = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    files = {path for path in (Path(name).resolve() for name in modules if name) if path.is_relative_to(root)}
    beside = {item for folder in {path.parent for path in files} for item in folder.iterdir() if item.is_file()}
    files |= {item for item in beside if item.suffix not in (".py", ".pyc")}
    return {path.relative_to(root.parent).as_posix(): artifact.sha256(path) for path in sorted(files)}


def code_digest(files: Mapping[str, str]) -> str:
    """Return one sha256 for all files: that of `sha256sum FILES`, so that anybody can have it without Tinsmith."""
    lines = "".join(f"{sha}  {name}\n" for name, sha in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _source() -> list[dict[str, Any]]:
    files, here = code(), revision.find()
    about = {"dirty": list(here.dirty), "directory": here.directory, "stated": here.stated}
    return [
        {"annotations": {"files": files}, "digest": {"sha256": code_digest(files)}, "name": "code"},
        {"annotations": about, "digest": {"gitCommit": here.commit}, "name": "revision"},
    ]


def _subjects(out: Path, manifest: Mapping[str, Any] | None) -> dict[str, str]:
    """Files of an output with the digests its manifest already has: nothing large is read twice."""
    if manifest is None:
        return {out.as_posix(): artifact.sha256(out)}
    files = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    return {f"{out.as_posix()}/{name}": sha for name, sha in files.items()} | {
        f"{out.as_posix()}/{artifact.MANIFEST}": artifact.digest(out)
    }


def _merged(manifests: Any, name: str) -> dict[str, Any]:
    return {key: value for manifest in manifests for key, value in manifest[name].items()}


def _descriptor(name: str, sha: str) -> dict[str, Any]:
    return {"digest": {"sha256": sha}, "name": name}


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
