"""Hold a bundle to what the release here wrote: its statement, which dvc.lock knows by md5, names every file of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.core import artifact
from stages.lineage import lock, signing
from stages.lineage.bundle import files, statement_path, subjects
from stages.lineage.chain import Ground, unlocked
from stages.lineage.findings import NOTHING, Finding, Link, content
from stages.lineage.runs import MALFORMED, ran
from stages.lineage.sealed import CLOSING
from stages.schema.layout import RELEASE, VERDICTS


def link(bundle: Path, manifest: Mapping[str, Any], ground: Ground) -> list[Link]:
    """Return the run that wrote a bundle, where this workspace's release did or should have.

    Args:
        bundle: its directory.
        manifest: the bundle's.
        ground: where to look.
    """
    out = ground.build / RELEASE if ground.build else None
    if not ground.build or not out or not out.is_dir():
        return []
    found = Link(RELEASE)
    path = statement_path(ground.build, out)
    own = bundle.absolute().parent.resolve() == out.resolve()
    if not path.is_file():
        found.unfollowed.append(f"no statement says which code released it: there is no {path}")
        found.findings += unlocked(ground, out, path) if own else []
        return [found]
    try:
        statement = json.loads(path.read_bytes())
        if signing.canonical(statement) != path.read_bytes():
            raise ValueError("not written as a stage writes it")
        said = subjects(statement)
        inside = f"{out.as_posix()}/{bundle.name}/"
        if own or said.get(f"{inside}{artifact.MANIFEST}") == artifact.digest(bundle):
            _compare(bundle, manifest, _inside(said, inside), found)
            found.findings += _unlocked(ground, path)
            if path.as_posix() not in ground.locked:
                found.unfollowed.append(f"no {lock.LOCK} knows {path}")
            found.findings += _itself(out, said) if own else []
            found.findings += _verdicts(ground.build, statement)
            ran(found, ground, statement, "released")
        else:
            found.unfollowed.append(f"{out} has another bundle of this name, or none")
    except MALFORMED as error:
        found.findings.append(Finding(str(path), "the statement that the release wrote", repr(error)))
    return [found]


def _inside(said: Mapping[str, str], directory: str) -> dict[str, str]:
    return {name.removeprefix(directory): sha for name, sha in said.items() if name.startswith(directory)}


def _compare(bundle: Path, manifest: Mapping[str, Any], said: Mapping[str, str], found: Link) -> None:
    """Compare a bundle's files, as its manifest has them, with those of the statement."""
    listed = {name: entry["sha256"] for name, entry in manifest.get("files", {}).items()}
    # Of what no manifest can list, the bytes themselves.
    listed |= {name: content(bundle / name) for name in files(bundle) if name in said.keys() - listed.keys()}
    found.findings += [
        Finding(str(bundle / name), said.get(name, NOTHING), listed.get(name, NOTHING))
        for name in sorted(said.keys() | listed.keys(), key=lambda name: (name in CLOSING, name))
        if said.get(name) != listed.get(name)
    ]
    found.notes.append(f"{len(said)} files are named in its statement")


def _unlocked(ground: Ground, path: Path) -> list[Finding]:
    """Hold the statement to dvc.lock."""
    recorded = [path] if path.as_posix() in ground.locked else []
    return [
        Finding(str(where), f"md5 {expected} (dvc.lock)", f"md5 {md5}")
        for where, expected, md5 in lock.differences(ground.locked, recorded)
    ]


def _itself(out: Path, said: Mapping[str, str]) -> list[Finding]:
    """Hold the release's manifest, which lists all bundles, to the statement."""
    path = out / artifact.MANIFEST
    recorded, here = said[path.as_posix()], content(path) if path.is_file() else NOTHING
    return [] if recorded == here else [Finding(str(path), recorded, here)]


def _verdicts(build: Path, statement: Mapping[str, Any]) -> list[Finding]:
    """Hold the gate's verdicts to those that the release read."""
    path = build / VERDICTS
    depends = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    read = next(entry["digest"]["sha256"] for entry in depends if entry["name"] == "verdicts")
    here = content(path) if path.is_file() else NOTHING
    return [] if read == here else [Finding(str(path), f"{read}, which the release read", here)]
