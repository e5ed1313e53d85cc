"""Write a package so that the same model gives the same bytes in every process, on every day."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

from stages.targets.coreml_metal.package import (
    BLOB_HEADER,
    FILE_HEADER,
    MANIFEST,
    PROGRAM,
    WEIGHTS,
    read_blobs,
    read_program,
)

STAMP = "com.github.apple.coremltools."
"""Prefix of the metadata coremltools adds: the date of the conversion, its own version and torch's."""
AUTHOR = "com.apple.CoreML"
ITEMS = {
    f"{AUTHOR}/model.mlmodel": "CoreML Model Specification",
    f"{AUTHOR}/weights": "CoreML Model Weights",
}
"""Path below `Data` → description of what a package lists, the program first."""


def save(model: Any, package: Path) -> None:
    """Save an `MLModel` as a canonical package.

    Args:
        model: what `toolchain.build` returned.
        package: the `.mlpackage` directory to create.
    """
    model.save(str(package))
    canonicalise(package)


def canonicalise(package: Path) -> None:
    """Rewrite a saved package in place.

    Before: protobuf maps in hash order, today's date, torch's local version (`+cpu`), random item identifiers,
    reserved header bytes of whatever lay in memory, one file only its owner may read. After: none of these.
    The bytes are stable for one version of protobuf.
    """
    model = read_program(package)
    for key in [key for key in model.description.metadata.userDefined if key.startswith(STAMP)]:
        del model.description.metadata.userDefined[key]
    model.mlProgram.attributes.pop("buildInfo", None)
    (package / PROGRAM).write_bytes(model.SerializeToString(deterministic=True))
    (package / PROGRAM).chmod(0o644)
    _clear_reserved(package / WEIGHTS)
    (package / MANIFEST).write_text(manifest(), encoding="utf-8")


def manifest() -> str:
    """Return the manifest of a package of one program and its weights, whose items are named by where they lie."""
    items = {
        _identifier(path): {"author": AUTHOR, "description": description, "name": path.rpartition("/")[2], "path": path}
        for path, description in ITEMS.items()
    }
    root = _identifier(next(iter(ITEMS)))
    found = {"fileFormatVersion": "1.0.0", "itemInfoEntries": items, "rootModelIdentifier": root}
    return json.dumps(found, indent=2, sort_keys=True) + "\n"


def _identifier(path: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, path)).upper()


def _clear_reserved(path: Path) -> None:
    data = bytearray(path.read_bytes())
    blobs = read_blobs(path)
    FILE_HEADER.pack_into(data, 0, *FILE_HEADER.unpack_from(data))
    for blob in blobs:
        BLOB_HEADER.pack_into(data, blob.header, *BLOB_HEADER.unpack_from(data, blob.header))
    path.write_bytes(data)
