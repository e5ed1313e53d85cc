"""Join weights that were saved in several safetensors files, as transformers saves those of large models.

The index says which tensor lies in which file. Both are data from outside: names are held to the pattern that
transformers writes, and each file must have the tensors that the index says it has.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.core.errors import InputError
from stages.models.contents import INDEX, WEIGHTS
from stages.models.header import LENGTH_BYTES, check_header, read_json
from stages.schema.model import ImportLimits

SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
ALIGNMENT = 8
"""Bytes: the format wants its header filled up with blanks, so that tensors begin at a multiple of this."""


def names(directory: Path) -> list[str]:
    """Name the index and the files beside it, in order; nothing where the weights are one file, which then counts."""
    if (directory / WEIGHTS).is_file() or not (directory / INDEX).is_file():
        return []
    return [INDEX, *sorted(path.name for path in directory.iterdir() if SHARD.fullmatch(path.name))]


def join(private: Path, limits: ImportLimits, fetch: Callable[[str], None]) -> None:
    """Make one file of weights out of the shards, byte for byte, and remove them.

    Args:
        private: directory that has the index; what is joined lies there.
        limits: what each file may ask of this machine.
        fetch: brings a shard there by its name, if there is one.

    Raises:
        InputError: the index is none, names a file that is missing or lies elsewhere, or says of one what it has not.
    """
    placed = _index(private / INDEX)
    files = sorted(set(placed.values()))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    starts, end = {}, 0
    for name in files:
        path = private / name
        fetch(name)
        if not path.is_file():
            raise InputError(f"'{private / INDEX}' names '{name}', which is not there", expected="all of its shards")
        tensors, starts[name] = check_header(path, limits)
        _check_tensors(path, tensors.keys(), {tensor for tensor, place in placed.items() if place == name})
        for tensor, told in tensors.items():
            header[tensor] = told | {"data_offsets": [end + offset for offset in told["data_offsets"]]}
        end += path.stat().st_size - starts[name]
    written = json.dumps(header, separators=(",", ":")).encode()
    written += b" " * (-len(written) % ALIGNMENT)
    with (private / WEIGHTS).open("wb") as target:
        target.write(len(written).to_bytes(LENGTH_BYTES, "little") + written)
        for name in files:
            with (private / name).open("rb") as source:
                source.seek(starts[name])
                shutil.copyfileobj(source, target)
            (private / name).unlink()
    (private / INDEX).unlink()


def _index(path: Path) -> dict[str, str]:
    found = read_json(path)
    placed = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(placed, dict) or not placed:
        raise InputError(f"'{path}' has no weight_map", expected="the index that transformers writes beside shards")
    wrong = next((str(name) for name in placed.values() if not isinstance(name, str) or not SHARD.fullmatch(name)), "")
    if wrong:
        raise InputError(f"'{path}' names '{wrong}' as a shard", expected="names as 'model-00001-of-00002.safetensors'")
    return placed


def _check_tensors(path: Path, found: Any, said: set[str]) -> None:
    if found != said:
        tensor = sorted(found ^ said)[0]
        problem = "lacks" if tensor in said else "has"
        raise InputError(
            f"'{path}' {problem} tensor '{tensor}', and its index says otherwise",
            expected="the shards and the index that were saved together",
        )
