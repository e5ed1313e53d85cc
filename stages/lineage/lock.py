"""dvc.lock: what DVC recorded of every output, and whether that is what lies here.

DVC knows md5 alone: of a file its own, of a directory that of a JSON listing of its files (`.dir`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.core.params import parse_yaml

LOCK = Path("dvc.lock")


def outputs(lock: Path = LOCK) -> dict[str, dict[str, Any]]:
    """Return path → DVC's entry (`md5`, `size`, for a directory `nfiles`) of every output.

    Raises:
        ArtifactError: there is no lock, or it is damaged.
    """
    return {out["path"]: out for out in _entries(lock, "outs")}


def sizes(lock: Path = LOCK) -> dict[str, int]:
    """Return md5 → size of everything that the lock names."""
    entries = [*_entries(lock, "deps"), *_entries(lock, "outs")]
    return {entry["md5"]: entry["size"] for entry in entries if "md5" in entry and "size" in entry}


def inputs(lock: Path = LOCK) -> list[str]:
    """Return what stages read and neither a stage nor a programmer wrote: data sets and checkpoints."""
    if not lock.is_file():
        return []
    made = set(outputs(lock))
    paths = {dep["path"] for dep in _entries(lock, "deps")} - made
    return sorted(path for path in paths if path.split("/")[0] not in ("build", "conf", "stages"))


def settings(stage: str, lock: Path = LOCK) -> dict[str, Any]:
    """Return key → value of the parameters that a stage ran with; nothing of a stage that the lock does not have."""
    with _damage(lock):
        files = _stages(lock).get(stage, {}).get("params", {})
        return {key: value for values in files.values() for key, value in values.items()}


def _entries(lock: Path, kind: str) -> list[dict[str, Any]]:
    with _damage(lock):
        found = [entry for stage in _stages(lock).values() for entry in stage.get(kind, [])]
        return [entry for entry in found if entry["path"]]


def _stages(lock: Path) -> dict[str, Any]:
    tree = parse_yaml(lock.read_text(encoding="utf-8"))
    return dict(tree["stages"])


@contextmanager
def _damage(lock: Path) -> Iterator[None]:
    """Turn whatever a damaged lock raises into one error."""
    try:
        yield
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ArtifactError(f"cannot read '{lock}': {error}", next_step="run `dvc repro`") from error


def md5(path: Path) -> str:
    """Return what DVC would record of a file or directory."""
    if path.is_file():
        return _md5_of_file(path)
    files = sorted(item.relative_to(path).as_posix() for item in path.rglob("*") if item.is_file())
    return listing_md5([{"md5": _md5_of_file(path / name), "relpath": name} for name in files])


def listing_md5(entries: Iterable[Mapping[str, str]]) -> str:
    """Return a directory's md5 from those of its files."""
    ordered = sorted(entries, key=lambda entry: entry["relpath"])
    return hashlib.md5(json.dumps(ordered, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def differences(recorded: Mapping[str, Mapping[str, Any]], paths: Iterable[Path]) -> Iterator[tuple[Path, str, str]]:
    """Yield path, expected and found md5 of every output that is not what the lock says; a symbolic link never is."""
    for path in paths:
        expected = recorded.get(path.as_posix(), {}).get("md5", "no entry")
        linked = artifact.links(path)
        found = f"{md5(path)} with a symbolic link in it ('{linked[0]}')" if linked else md5(path)
        if found != expected:
            yield path, expected, found


def cache_directory() -> Path:
    """Return the cache that DVC uses here, whichever of its config files says so."""
    from dvc.repo import Repo

    with Repo() as repo:
        return Path(repo.cache.local.path).parent.parent


def uncached() -> set[str]:
    """Return the outputs that dvc.yaml keeps out of the cache."""
    from dvc.repo import Repo

    with Repo() as repo:
        return {out.def_path for out in repo.index.outs if not out.use_cache}


def _md5_of_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
