"""Check the header of a safetensors file with nothing but the standard library, before anything maps the file.

The library refuses most of this too; here the tensor is named, the limits are ours, and a file that is something else
altogether (a pickle, an archive) is never handed on.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from stages.core.errors import InputError
from stages.schema.model import ImportLimits

LENGTH_BYTES = 8
MOST_DIMENSIONS = 8
SHOWN = 60
# Bytes of one element (safetensors format). Sub-byte types are left out: no family here stores them.
ELEMENT_BYTES = {
    **dict.fromkeys(("BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("BF16", "F16", "I16", "U16"), 2),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F64", "I64", "U64"), 8),
}
# What other formats begin with, for a better word than "absurd header".
MAGIC = {b"\x80": "a pickle", b"PK": "a zip archive or a pickled checkpoint", b"\x1f\x8b": "a gzip archive"}


def check_header(path: Path, limits: ImportLimits) -> tuple[dict[str, Any], int]:
    """Check that the tensors fill the file exactly, one after another, each as large as its shape says.

    Returns:
        Tensor → what the header says of it; and the byte that the first one begins at.

    Raises:
        InputError: names the file, the tensor and what does not agree.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(LENGTH_BYTES)
        length = int.from_bytes(start, "little")
        if len(start) < LENGTH_BYTES or length > min(limits.header_bytes, size - LENGTH_BYTES):
            what = next((name for magic, name in MAGIC.items() if start.startswith(magic)), None)
            raise _refuse(path, f"is {what}" if what else f"announces a header of {length} bytes in a file of {size}")
        raw = stream.read(length)
    tensors = _parse(path, raw)
    tensors.pop("__metadata__", None)
    if len(tensors) > limits.tensors:
        raise _refuse(path, f"has {len(tensors)} tensors, {limits.tensors} are allowed (teacher.limits.tensors)")
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: _offsets(path, *item)):
        begin, after = _offsets(path, name, tensor)
        if begin != end or after - begin != _bytes(path, name, tensor):
            raise _refuse(
                path,
                f"has tensor '{name}' of {tensor['dtype']} {tensor['shape']} at bytes {begin} to {after}, where {end} "
                "is the next free one: it overlaps, leaves a gap, or is not as large as its shape",
            )
        end = after
    if LENGTH_BYTES + length + end != size:
        raise _refuse(path, f"holds {size - LENGTH_BYTES - length - end} bytes that belong to no tensor")
    return tensors, LENGTH_BYTES + length


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a mapping of JSON's pairs.

    Raises:
        ValueError: a name occurs twice.
    """
    names = dict(pairs)
    if len(names) != len(pairs):  # two readers may disagree which of two twins counts
        raise ValueError("a name occurs twice")
    return names


def read_json(path: Path) -> Any:
    """Read JSON from outside.

    Raises:
        InputError: it is none, or a name occurs twice.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read '{path}': {error}") from error


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise _refuse(path, f"has a header that is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise _refuse(path, "has a header that is no JSON object")
    return found


def _offsets(path: Path, name: str, tensor: Any) -> tuple[int, int]:
    match tensor:
        case {"data_offsets": [int(begin), int(end)], "dtype": str(), "shape": [*_]} if 0 <= begin <= end:
            return begin, end
    raise _refuse(path, f"describes tensor '{name}' without dtype, shape and ascending offsets")


def _bytes(path: Path, name: str, tensor: dict[str, Any]) -> int:
    shape: list[int] = tensor["shape"]
    dtype: str = tensor["dtype"]
    extents = len(shape) <= MOST_DIMENSIONS and all(type(extent) is int and extent >= 0 for extent in shape)
    if not extents or dtype not in ELEMENT_BYTES:
        raise _refuse(path, f"gives tensor '{name}' dtype {dtype!r} and shape {str(shape)[:SHOWN]}")
    return math.prod(shape) * ELEMENT_BYTES[dtype]


def _refuse(path: Path, problem: str) -> InputError:
    return InputError(f"'{path}' {problem}", expected="an intact safetensors file")
