"""Prove where an artifact came from: rehash it, walk its chain, check its signatures.

Reads: a bundle, an artifact or a model in MLflow; as far as they lie here its lineage, build/, git and MLflow's record.
Writes: nothing; the chain as a tree with a verdict per link, exit 1 when anything is not what it was recorded as.
Why: MLflow shows digests and verifies none, DVC does not notice a corrupted cache object, and neither follows a file
    out of the repository.

    python -m stages.audit build/release/onnx-cpu-fp32             follow everything that is here
    python -m stages.audit --offline BUNDLE                        the bundle alone
    python -m stages.audit --rebuild build/artifact/onnx-cpu-fp32  make it again from its parents, compare bytes
    python -m stages.audit models:/tinsmith.onnx-cpu-fp32/1        what MLflow serves, against its record
    python -m stages.audit --cache                                 every object of the DVC cache
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from stages.core import artifact, cli
from stages.core.errors import ArtifactError
from stages.core.params import PARAMS_FILE
from stages.lineage import cache, chain, derived, origin, rebuild, recorded, released, sealed, signing
from stages.lineage.bundle import SUMS, files, statement_path
from stages.lineage.errors import AuditFailed
from stages.lineage.findings import Finding, Link, draw, findings, printable
from stages.lineage.revision import Repository

BUILD = Path("build")


def audit(subject: str, public: str | None, *, offline: bool, again: bool) -> Link:
    """Audit one thing.

    Args:
        subject: a bundle, a stage output, a file in either, or an MLflow model's URI.
        public: the key to trust.
        offline: look at nothing but `subject` itself.
        again: make it again from its parents as well.

    Raises:
        ArtifactError: there is no such thing, or nothing that an audit could start from.
    """
    if recorded.is_uri(subject):
        with tempfile.TemporaryDirectory() as scratch:
            directory, said = recorded.fetch(subject, Path(scratch))
            root = _output(directory, _ground(None, public, offline=offline))
            root.name = subject
            root.below.insert(0, said)
            return root
    path = Path(subject).resolve() if Path(subject).name in ("", "..") else Path(subject)
    directory = _root(path)
    if (directory / SUMS).exists():
        root = _bundle(directory, public, offline=offline)
    else:
        root = _output(directory, _ground(None, public, offline=offline))
    if path != directory and not _lists(directory, path.relative_to(directory)):
        root.findings.append(Finding(str(path), "something that the manifest lists", "something that it does not"))
    if not offline:
        root.below += recorded.compare_build(BUILD)
    if again:
        root.below += rebuild.again(root, BUILD)
    return root


def _root(path: Path) -> Path:
    """Return the directory that a path is, or lies in, that has a manifest.

    Raises:
        ArtifactError: there is no such path, or nothing that has a manifest.
    """
    if not os.path.lexists(path):
        beside = path.parent.iterdir() if path.parent.is_dir() else ()
        near = ", ".join(sorted(item.name for item in beside if item.is_dir() and not item.name.startswith(".")))
        raise ArtifactError(f"'{path}' does not exist", expected=f"in '{path.parent}': {near}" if near else "a path")
    for directory in (path, *path.parents):
        if (directory / artifact.MANIFEST).is_file() or (directory / SUMS).is_file():
            return directory
    raise ArtifactError(
        f"'{path}' is no bundle, stage output, or file in one: there is no {artifact.MANIFEST}",
        expected="e.g. build/release/VARIANT, build/artifact/VARIANT or models:/NAME/VERSION",
    )


def _lists(directory: Path, name: Path) -> bool:
    """Whether a directory's manifest lists a file, or anything below a directory."""
    listed = {*chain.read_manifest(directory / artifact.MANIFEST).get("files", {}), *sealed.CLOSING}
    return name.as_posix() in listed or any(Path(item).is_relative_to(name) for item in listed)


def _ground(bundle: Path | None, public: str | None, *, offline: bool) -> chain.Ground:
    build = BUILD if BUILD.is_dir() and not offline else None
    return chain.Ground(bundle, build, public, None if offline else Repository())


def _bundle(directory: Path, public: str | None, *, offline: bool) -> Link:
    root, manifest = sealed.check(directory, public)
    strange = any(item.exists() and not item.is_file() for item in map(directory.joinpath, files(directory)))
    changed = any(not finding.added for finding in root.findings)
    if manifest.get("parents") and not strange:  # whatever is read below is a file
        ground = _ground(directory, public, offline=offline)
        root.findings += origin.misplaced(directory, manifest)
        root.below = origin.link(directory, manifest, ground)
        root.below += released.link(directory, manifest, ground)
        if not changed:  # of a bundle that is not what it says of itself nothing follows
            root.below.append(derived.link(directory, manifest, ground))
    return root


def _output(directory: Path, ground: chain.Ground) -> Link:
    """Audit a directory with a manifest: one that the workspace made, or one that came from elsewhere."""
    manifest = chain.read_manifest(directory / artifact.MANIFEST)
    digest = artifact.digest(directory)
    if not manifest:
        wrong = Finding(str(directory / artifact.MANIFEST), "a manifest as its stage wrote it", "something else")
        return Link(str(directory), digest, directory, findings=[wrong])
    if digest in ground.manifests and any(place.directory == directory for place in ground.manifests[digest]):
        return chain.walk(ground, manifest["stage"], digest)
    root = Link(str(directory), digest, directory, findings=chain.rehash(directory, manifest))
    if digest in ground.manifests:
        root.below = [chain.walk(ground, manifest["stage"], digest)]
    else:
        if directory.as_posix() in ground.locked:  # the release: its bundles have chains of their own
            root.findings += chain.unlocked(ground, directory, statement_path(BUILD, directory))
        else:
            root.unfollowed.append("no output in build/ has this manifest")
        root.below = chain.descend(ground, manifest["parents"])
    for sums in sorted(directory.glob(f"*/{SUMS}")):
        root.below.append(_bundle(sums.parent, ground.public, offline=ground.repository is None))
    return root


def report(root: Link, *, as_json: bool) -> None:
    """Print the tree.

    Raises:
        AuditFailed: something is not what it was recorded as.
    """
    wrong = findings(root)
    changed = [finding for finding in wrong if not finding.added]
    if as_json:
        print(json.dumps({"findings": [vars(item) for item in wrong], "intact": not wrong, **root.plain()}, indent=2))
    else:
        print(draw(root))
        unknown = sum(len(link.unfollowed) for link in root.all())
        said = f"{len(changed)} changed, {len(wrong) - len(changed)} added, {unknown} not followed"
        print(f"{sum(1 for _ in root.all())} links, {said}")
    if changed:
        raise AuditFailed(
            f"{len(changed)} thing(s) are not what they were recorded as; first: {printable(str(changed[0]))}"
        )
    if wrong:
        raise AuditFailed(
            f"what was recorded is intact, and {len(wrong)} thing(s) lie beside it that nothing vouches for; first: "
            f"{printable(str(wrong[0]))}",
            next_step="move them out, then audit again",
        )


def _key(given: str | None) -> str | None:
    """Return the public key to trust: as given, from a file, or from params.yaml."""
    if given is None:
        return signing.public_key(PARAMS_FILE)
    return Path(given).read_text(encoding="utf-8").strip() if Path(given).is_file() else given


def _body(arguments: argparse.Namespace) -> None:
    if arguments.cache:
        report(cache.audit(discard=arguments.discard), as_json=arguments.json)
    else:
        root = audit(arguments.subject, _key(arguments.key), offline=arguments.offline, again=arguments.rebuild)
        report(root, as_json=arguments.json)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    first, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("subject", nargs="?", help="bundle, stage output, file in either, or MLflow model URI")
    what.add_argument("--cache", action="store_true", help="rehash the DVC cache instead")
    parser.add_argument("--discard", action="store_true", help="with --cache: delete bad objects, for `dvc repro`")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--key", help="public key to trust, hex or a file (default: signing.public_key of params.yaml)")
    parser.add_argument("--offline", action="store_true", help="look at nothing but the subject itself")
    parser.add_argument("--rebuild", action="store_true", help="make the artifact again from its parents")
    return cli.execute(parser, argv, _body)


if __name__ == "__main__":
    sys.exit(main())
