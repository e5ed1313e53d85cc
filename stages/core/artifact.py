"""A stage's output: a directory written whole or not at all, with a manifest that names its parents.

`manifest.json` carries no clock and no host, so the same inputs give the same bytes and a manifest's sha256
identifies everything below it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError
from stages.core.params import Section

MANIFEST = "manifest.json"
# Where DVC keeps what it links to, wherever its cache lies: by the md5 of the content.
CACHE_OBJECT = re.compile(r"(?:.*/)?files/md5/[0-9a-f]{2}/[0-9a-f]{30}")


def sha256(path: Path) -> str:
    """Return the hex sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(directory: Path) -> str:
    """Return the sha256 of a stage output's manifest, which stands for the whole directory."""
    return sha256(_manifest_path(directory))


def write_json(path: Path, value: Any) -> None:
    """Write canonical JSON (sorted keys, newline at the end) through a rename; NaN is an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """Read a JSON file that another stage wrote.

    Raises:
        ArtifactError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"cannot read '{path}': {error}", next_step="run `dvc repro`") from error


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an uncompressed .npz; members are dated 1980 and sorted, so equal arrays give equal bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in sorted(arrays.items()):
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read an .npz that another stage wrote.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"cannot read '{path}': {error}", next_step="run `dvc repro`") from error


@contextmanager
def writing(
    out: Path,
    *,
    stage: str,
    parents: Mapping[str, Path],
    params: Section | None = None,
    tools: tuple[str, ...] = (),
    facts: Mapping[str, Any] | None = None,
) -> Iterator[Path]:
    """Yield a temporary directory that becomes `out` when the block ends well.

    Args:
        out: the output directory; replaced whole, left as it was on an error.
        stage: name of the producing stage.
        parents: role → output directory (or plain file) of the stages this one read.
        params: the settings that shaped the output.
        tools: distribution names whose versions shaped the output.
        facts: what else whoever finds the directory must know.
    """
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    out.parent.mkdir(parents=True, exist_ok=True)
    for leftover in out.parent.glob(f".{out.name}.*.tmp"):  # of a killed run
        shutil.rmtree(leftover, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if found := links(temporary):
            raise ArtifactError(
                f"'{out}' would hold a symbolic link: '{found[0]}'", expected="files and directories of its own"
            )
        recorded = _manifest(temporary, stage, parents, params, tools)
        write_json(temporary / MANIFEST, recorded | ({"facts": dict(facts)} if facts else {}))
        if out.is_dir():
            shutil.rmtree(out)
        else:
            out.unlink(missing_ok=True)
        temporary.replace(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def manifest(directory: Path) -> dict[str, Any]:
    """Read a stage output's manifest.

    Raises:
        ArtifactError: there is none.
    """
    return dict(read_json(_manifest_path(directory)))


def problems(directory: Path) -> list[str]:
    """Compare a stage output with its manifest, byte for byte.

    Returns:
        One line per symbolic link and missing, extra or altered file; empty when the directory is intact.
    """
    found = [f"'{name}' is a symbolic link" for name in links(directory)]
    recorded = manifest(directory)["files"]
    present = set(_files(directory))
    found += [f"'{name}' is missing" for name in sorted(set(recorded) - present)]
    found += [f"'{name}' is not in the manifest" for name in sorted(present - set(recorded))]
    for name in sorted(set(recorded) & present):
        actual = sha256(directory / name)
        if actual != recorded[name]["sha256"]:
            found.append(f"'{name}' has sha256 {actual[:12]}, manifest says {recorded[name]['sha256'][:12]}")
    return found


def require(directory: Path) -> Path:
    """Return `directory` after checking that it is exactly what its stage wrote.

    Raises:
        ArtifactError: it is missing, incomplete or altered (DVC does not notice a corrupted cache object).
    """
    found = problems(directory)
    if found:
        raise ArtifactError(
            f"'{directory}' is not what its stage wrote: {found[0]}",
            next_step=f"delete '{directory}' and its cache entry, then run `dvc repro`",
        )
    return directory


def is_link(path: Path) -> bool:
    """Whether a path is a symbolic link, but for DVC's own: under `cache.type symlink` files lead to cache objects."""
    return path.is_symlink() and not (path.is_file() and CACHE_OBJECT.fullmatch(path.readlink().as_posix()))


def links(path: Path) -> list[str]:
    """Name the symbolic links below a directory, and an output that is one; DVC's own are none.

    What a link leads to can change unseen, and a linked directory is not walked: nothing in it would be checked.
    """
    below = (item.relative_to(path).as_posix() for item in path.rglob("*") if is_link(item))
    return [path.name] if is_link(path) else sorted(below)


def size_bytes(path: Path) -> int:
    """Return the bytes on disk of a file, or of all files below a directory."""
    if path.is_file():
        return path.stat().st_size
    return sum(item.stat().st_size for item in path.rglob("*") if item.is_file())


def _manifest_path(directory: Path) -> Path:
    path = directory / MANIFEST
    if not path.is_file():
        raise ArtifactError(f"'{directory}' has no {MANIFEST}", next_step="run `dvc repro`")
    return path


def _files(directory: Path) -> list[str]:
    found = (item for item in directory.rglob("*") if item.is_file() and not is_link(item))
    return sorted(name for item in found if (name := item.relative_to(directory).as_posix()) != MANIFEST)


def _manifest(
    directory: Path, stage: str, parents: Mapping[str, Path], params: Section | None, tools: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "files": {
            name: {"sha256": sha256(directory / name), "size_bytes": (directory / name).stat().st_size}
            for name in _files(directory)
        },
        "params": params.model_dump(mode="json") if params else {},
        "parents": {role: digest(path) if path.is_dir() else sha256(path) for role, path in sorted(parents.items())},
        "schema": 1,
        "stage": stage,
        "tools": {tool: metadata.version(tool) for tool in sorted(tools)},
    }
