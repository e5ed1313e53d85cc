"""Rehash the DVC cache: DVC trusts an object's name once it is there, whatever became of its bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from stages.core import params
from stages.lineage import lock
from stages.lineage.findings import Finding, Link

LISTING = ".dir"


def audit(*, discard: bool) -> Link:
    """Check every object, every entry of the run-cache, and that every cached output in dvc.lock has its objects.

    Args:
        discard: delete what is bad, so that `dvc repro` makes it again.
    """
    cache = lock.cache_directory()
    store = cache / "files" / "md5"
    outputs = lock.outputs() if lock.LOCK.is_file() else {}
    objects = sorted(path for path in store.glob("*/*") if path.is_file())
    bad = {finding.expected: finding for finding in map(_corrupt, objects) if finding}
    sizes = lock.sizes() if lock.LOCK.is_file() else {}
    runs = [finding for path in _runs(cache) if (finding := _forged(path, sizes))]
    served = _served(cache, store, outputs, bad)
    size = sum(path.stat().st_size for path in objects)
    link = Link(f"cache {cache}", directory=cache, notes=[f"{len(objects)} objects, {size / 1e6:.1f} MB"])
    for digest, finding in bad.items():
        link.findings.append(finding)
        link.notes.append(f"{digest} serves {', '.join(served.get(digest, [])) or 'nothing that is known here'}")
    link.findings += runs
    present = {path.parent.name + path.name for path in objects}
    kept_out = lock.uncached()
    for path, digest in _wanted(store, outputs):
        if digest not in present and path not in kept_out:
            link.findings.append(Finding(f"{store / digest[:2] / digest[2:]}, for {path}", digest, "nothing"))
    if discard:
        for finding in [*bad.values(), *runs]:
            Path(finding.file).unlink()
    if link.findings:
        repair = "run `dvc repro`" if discard else "run `python -m stages.audit --cache --discard`, then `dvc repro`"
        link.notes.append(f"to repair: {repair}")
    return link


def _corrupt(path: Path) -> Finding | None:
    """Compare an object with its name."""
    digest = path.parent.name + path.name
    found = lock.md5(path) + (LISTING if digest.endswith(LISTING) else "")
    return Finding(str(path), digest, f"{found}, {path.stat().st_size} bytes") if found != digest else None


def _forged(path: Path, sizes: Mapping[str, int]) -> Finding | None:
    """Compare an entry of the run-cache with its name, as DVC computed it, and with the way DVC writes it.

    Sizes are not in the name: they are held to those that dvc.lock has for the same digests.
    """
    from dvc.exceptions import DvcException
    from dvc.stage.cache import _get_cache_hash
    from dvc.utils.serialize import dumps_yaml, parse_yaml

    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        entry = parse_yaml(text, str(path))
        same = dumps_yaml(entry) == text and _get_cache_hash(entry) == path.name
        said = [part for kind in ("deps", "outs") for part in entry.get(kind, [])]
        same = same and all(part.get("size") == sizes.get(part.get("md5"), part.get("size")) for part in said)
    except (ValueError, TypeError, KeyError, AttributeError, DvcException):
        same = False
    return None if same else Finding(str(path), f"the run that DVC recorded as {path.name}", "another")


def _wanted(store: Path, outputs: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield path and digest of every object that the cached outputs in dvc.lock need."""
    for path, entry in outputs.items():
        yield path, entry["md5"]
        for name, digest in _listing(store, entry["md5"]).items():
            yield f"{path}/{name}", digest


def _served(
    cache: Path, store: Path, outputs: Mapping[str, Mapping[str, Any]], bad: Mapping[str, Finding]
) -> dict[str, list[str]]:
    """Return bad digest → outputs it is needed for: of dvc.lock, and of runs that the run-cache could restore."""
    known = [(path, entry["md5"]) for path, entry in outputs.items()]
    for run in _runs(cache):
        known += [(out["path"], out["md5"]) for out in _outs(run)]
    served: dict[str, set[str]] = {}
    for path, digest in known:
        for name, part in {"": digest, **_listing(store, digest)}.items():
            if part in bad:
                served.setdefault(part, set()).add(f"{path}/{name}" if name else path)
    return {part: sorted(paths) for part, paths in served.items()}


def _runs(cache: Path) -> list[Path]:
    return sorted(path for path in cache.glob("runs/*/*/*") if path.is_file())


def _outs(run: Path) -> list[dict[str, Any]]:
    try:
        return [out for out in params.parse_yaml(run.read_bytes())["outs"] if {"md5", "path"} <= set(out)]
    except (ValueError, KeyError, TypeError, yaml.YAMLError):
        return []


def _listing(store: Path, digest: str) -> dict[str, str]:
    """Return name → digest of a directory's files; of a listing that is gone or unreadable nothing is known."""
    path = store / digest[:2] / digest[2:]
    if not digest.endswith(LISTING) or not path.is_file():
        return {}
    try:
        return {entry["relpath"]: entry["md5"] for entry in json.loads(path.read_bytes())}
    except (ValueError, KeyError, TypeError):
        return {}
