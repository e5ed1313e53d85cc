"""Walk from an output to everything it was made from, by digest alone.

A link is found by the sha256 of its manifest, wherever a manifest with that digest lies: in a bundle's `lineage/` or in
the workspace's `build/`. Paths and names are never trusted; what is not here is named as not followed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from stages.core import artifact
from stages.lineage import lock, signing
from stages.lineage.bundle import ATTESTATION, LINEAGE, files, statement_path, subjects
from stages.lineage.findings import NOTHING, SHORT, Finding, Link, additions, content
from stages.lineage.revision import Repository
from stages.lineage.sealed import signature
from stages.schema.layout import RELEASE, REPORT

# In the order an auditor asks: what ships, what measured it, what it was made from.
ORDER = (
    "artifact", "parity", "benchmark", "converted", "calibration", "compressed", "reference", "student",
    "transfer", "teacher", "data",
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where a link was found.

    Attributes:
        role: what it is called there.
        name: role and instance, `artifact onnx-cpu-fp32`.
        manifest: its manifest.
        directory: its bytes, None in a bundle, which carries manifests only.
        statement: where the statement of its run should lie.
    """

    role: str
    name: str
    manifest: Path
    directory: Path | None
    statement: Path


@dataclass
class Ground:
    """Everything an audit may look at.

    Attributes:
        bundle: a bundle, which has manifests and attestations.
        build: a workspace's outputs, which have bytes and statements too.
        public: the key that attestations should be signed with.
        repository: where code can be compared, None to leave that out.
    """

    bundle: Path | None
    build: Path | None
    public: str | None
    repository: Repository | None
    manifests: dict[str, list[Place]] = field(default_factory=dict)
    contents: dict[str, tuple[str, str]] = field(default_factory=dict)
    locked: Mapping[str, Any] = field(default_factory=dict)
    walked: dict[str, Link] = field(default_factory=dict)

    @cached_property
    def sources(self) -> dict[str, Path]:
        """Digest → plain file here: what came in from outside, and outputs that are files; read when needed."""
        if not self.build:
            return {}
        places = [*self.build.glob("*.json"), *Path("stages").rglob("*.yaml"), *map(Path, lock.inputs())]
        found = (item for place in places for item in ([place] if place.is_file() else sorted(place.rglob("*"))))
        return {artifact.sha256(path): path for path in found if path.is_file()}

    def __post_init__(self) -> None:
        """Index manifests by their digest, and files by theirs."""
        for place in [*self._in_bundle(), *self._in_build()]:
            digest = artifact.sha256(place.manifest)
            self.manifests.setdefault(digest, []).append(place)
            for name, entry in read_manifest(place.manifest).get("files", {}).items():
                self.contents.setdefault(entry["sha256"], (digest, name))
        if self.build and lock.LOCK.is_file():
            self.locked = lock.outputs()

    def _in_bundle(self) -> Iterator[Place]:
        for manifest in sorted(self.bundle.glob(f"{LINEAGE}/*/{artifact.MANIFEST}")) if self.bundle else []:
            role = manifest.parent.name
            yield Place(role, role, manifest, None, manifest.with_name(ATTESTATION))

    def _in_build(self) -> Iterator[Place]:
        if not self.build:
            return
        found = {*self.build.glob(f"*/{artifact.MANIFEST}"), *self.build.glob(f"*/*/{artifact.MANIFEST}")}
        for manifest in sorted(found):
            relative = manifest.parent.relative_to(self.build)
            if relative.parts[0] not in (RELEASE, REPORT):
                statement = statement_path(self.build, manifest.parent)
                yield Place(relative.parts[0], " ".join(relative.parts), manifest, manifest.parent, statement)


def walk(ground: Ground, role: str, digest: str) -> Link:
    """Follow one recorded digest, and everything below it.

    Args:
        ground: where to look.
        role: what the output above calls it.
        digest: what the output above recorded: of a manifest, or of a single file.
    """
    if digest in ground.walked:
        seen = ground.walked[digest]
        return Link(seen.name, digest, seen.directory, findings=seen.findings, again=True)
    if digest not in ground.manifests and digest in ground.contents:
        whole, name = ground.contents[digest]
        link = walk(ground, role, whole)
        link.name = f"{role}, {name} of {link.name}"
        return link
    link = ground.walked[digest] = Link(role, digest)
    places = ground.manifests.get(digest, [])
    if not places:
        _missing(ground, link, role)
        return link
    link.name = next((place.name for place in places if place.directory), places[0].name)
    manifest = read_manifest(places[0].manifest)
    for place in places:
        if place.directory:
            link.directory = place.directory
            link.findings += rehash(place.directory, manifest)
            link.findings += unlocked(ground, place.directory, place.statement)
            if ground.locked and place.directory.as_posix() not in ground.locked:
                link.unfollowed.append(f"{lock.LOCK} does not know {place.directory}")
    _attested(ground, link, places, manifest)
    link.below = descend(ground, manifest["parents"])
    return link


def descend(ground: Ground, parents: Mapping[str, str]) -> list[Link]:
    """Follow all digests that a manifest recorded."""
    return [walk(ground, role, parents[role]) for role in sorted(parents, key=_place_in_order)]


def rehash(directory: Path, manifest: Mapping[str, Any]) -> list[Finding]:
    """Compare a directory with its manifest, byte for byte."""
    recorded = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    present = {name: content(directory / name) for name in files(directory) if name != artifact.MANIFEST}
    found = [
        Finding(str(directory / name), sha, present.get(name, NOTHING))
        for name, sha in sorted(recorded.items())
        if sha != present.get(name)
    ]
    if artifact.is_link(directory):
        found.append(Finding(str(directory), "a directory", content(directory)))
    return found + additions(directory, {name: sha for name, sha in present.items() if name not in recorded}, recorded)


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest; one that is damaged has nothing in it, and its digest is nobody's."""
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        whole = all("sha256" in entry for entry in found["files"].values()) and bool(found["stage"])
        whole = whole and all(isinstance(found[part], dict) for part in ("files", "params", "parents"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return found if whole else {}


def _place_in_order(role: str) -> tuple[int, str]:
    column = role.partition("-")[0]  # `compressed-pruned` is what a chained compression started from
    return (ORDER.index(column) if column in ORDER else len(ORDER), role)


def _missing(ground: Ground, link: Link, role: str) -> None:
    """Say whether a link is a plain file, is elsewhere, or stands here under another digest."""
    if link.digest in ground.sources:
        link.directory = ground.sources[link.digest]
        link.notes.append(str(link.directory))
        return
    carried = ground.bundle / LINEAGE / role / artifact.MANIFEST if ground.bundle else None
    if carried and carried.is_file():
        link.findings.append(Finding(str(carried), link.digest, artifact.sha256(carried)))
    else:
        link.unfollowed.append("neither it nor its manifest is here")


def unlocked(ground: Ground, directory: Path, statement: Path) -> list[Finding]:
    """Hold an output and its statement to dvc.lock."""
    if directory.as_posix() not in ground.locked:
        return []
    paths = [directory, *([statement] if statement.is_file() else [])]
    return [
        Finding(f"{path}{'/' if path.is_dir() else ''}", f"md5 {expected} (dvc.lock)", f"md5 {found}")
        for path, expected, found in lock.differences(ground.locked, paths)
    ]


def _attested(ground: Ground, link: Link, places: list[Place], manifest: Mapping[str, Any]) -> None:
    """Check every statement about a link; the runs they describe may differ, the bytes may not."""
    present = [place for place in places if place.statement.is_file()]
    # A release carries every statement of its chain: in a bundle none is missing by chance.
    link.findings += [
        Finding(str(place.statement), "the statement of the run that made it", "nothing")
        for place in places
        if not place.directory and place not in present
    ]
    if not present and not link.findings:
        link.unfollowed.append("no statement says which code made it, where and when")
    for place in present:
        unknown: list[str] = []
        try:
            statement, wrong = _open(ground, place)
            wrong = wrong + _disagreements(link.digest, manifest, statement, str(place.statement))
            definition = statement["predicate"]["buildDefinition"]
            depends = {entry["name"]: entry for entry in definition["resolvedDependencies"]}
            notes = [made(statement["predicate"], depends["revision"])]
            if ground.repository and not wrong:
                agreed, wrong, unknown = ground.repository.compare(depends["code"], depends["revision"])
                notes.append(agreed)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            notes = []
            wrong = [Finding(str(place.statement), "a statement as its stage writes it", repr(error))]
        link.findings += wrong
        link.unfollowed += [reason for reason in unknown if reason not in link.unfollowed]
        link.notes += [text for text in notes if text and text not in link.notes]


def made(predicate: Mapping[str, Any], revision: Mapping[str, Any]) -> str:
    """Say when, on what and from which revision."""
    host = predicate["buildDefinition"]["internalParameters"]["host"]
    dirty, stated = ", ".join(revision["annotations"]["dirty"]), revision["annotations"].get("stated")
    return (
        f"made {predicate['runDetails']['metadata']['finishedOn']} on {host['cpu_model']}, {host['os']}, "
        f"Python {host['python']}, at {revision['digest']['gitCommit'][:SHORT]}"
        f"{f' with uncommitted {dirty}' if dirty else ''}{f' (so {stated} said; git was not asked)' if stated else ''}"
    )


def _open(ground: Ground, place: Place) -> tuple[Any, list[Finding]]:
    """Read a statement, from its envelope in a bundle; what is unsigned or unknown the bundle says once."""
    content = place.statement.read_bytes()
    if place.directory:
        statement = json.loads(content)
        if signing.canonical(statement) != content:
            raise ValueError("not written as a stage writes it")
        return statement, []
    statement, envelope = signing.open_sealed(content)
    return statement, signature(envelope, str(place.statement), ground.public)[1]


def _disagreements(digest: str, manifest: Mapping[str, Any], statement: Any, where: str) -> list[Finding]:
    """Compare a statement with the manifest it attests: subjects, parents and parameters."""
    named = subjects(statement)
    own = next((name for name, sha in named.items() if sha == digest), "")
    if not own:
        return [Finding(where, f"a statement about {digest}", "one about something else")]
    root = own.removesuffix(artifact.MANIFEST)
    recorded = {f"{root}{name}": entry["sha256"] for name, entry in manifest["files"].items()} | {own: digest}
    definition = statement["predicate"]["buildDefinition"]
    depends = {entry["name"]: entry["digest"].get("sha256") for entry in definition["resolvedDependencies"]}
    pairs = {name: (sha, named.get(name)) for name, sha in recorded.items()}
    pairs |= {role: (sha, depends.get(role)) for role, sha in manifest["parents"].items()}
    found = [Finding(where, f"{name} {sha}", str(said)) for name, (sha, said) in pairs.items() if sha != said]
    found += [Finding(where, "nothing else", name) for name in sorted(named.keys() - recorded.keys())]
    if definition["externalParameters"]["parameters"] != manifest["params"]:
        found.append(Finding(where, "the parameters of the manifest", "others"))
    return found
