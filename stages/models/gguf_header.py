"""Read the header of a GGUF file, its settings and where its tensors lie, under limits and before any tensor is read.

Why not `gguf.GGUFReader`: it takes the file's counts on trust, and reads behind the file's end for as long as they say.
Here a count is compared with the bytes that are left before anything is made room for.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from stages.core.errors import InputError
from stages.schema.model import ImportLimits

MAGIC, VERSIONS = b"GGUF", (2, 3)
ALIGNMENT, ALIGNMENT_KEY = 32, "general.alignment"
MOST_KEYS = 1000  # files have some fifty
MOST_DIMENSIONS = 4
SHOWN = 60
STRING, ARRAY, FLOAT32 = 8, 9, 6
# GGUF's number of a type → how `struct` and numpy spell it.
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", FLOAT32: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
TYPES = ("F32", "F16", "Q4_0", "Q4_1", "Q8_0")


@dataclass(frozen=True)
class Stored:
    """A tensor as it lies in the file."""

    kind: str
    """One of TYPES."""
    shape: tuple[int, ...]
    """Slowest axis first, as in PyTorch."""
    offset: int
    """Of its first byte in the file."""
    row_bytes: int
    """Of the fastest axis."""


@dataclass(frozen=True)
class Header:
    """What a GGUF file says before its tensors' bytes."""

    settings: dict[str, Any]
    """32-bit floats as the shortest decimal that rounds to them: 1e-05 and not 9.999999747378752e-06."""
    tensors: dict[str, Stored]


def read(stream: BinaryIO, path: Path, limits: ImportLimits) -> Header:
    """Read the header of an open file.

    Args:
        stream: at its beginning.
        path: how errors name it.
        limits: what it may ask of this machine; a vocabulary lies in the header, so that `json_bytes` bounds it.

    Raises:
        InputError: it is no little-endian GGUF of version 2 or 3, announces more than it holds or than is allowed, has
            a name twice, a tensor of another type than TYPES, or tensors that do not fill it one after another.
    """
    size = path.stat().st_size
    if size > limits.total_bytes:
        raise InputError(f"'{path}' has {size} bytes", expected=f"at most {limits.total_bytes} (teacher.limits)")
    fields = _Fields(stream, path, min(size, limits.json_bytes))
    if fields.take(len(MAGIC)) != MAGIC:
        raise _refuse(path, "does not begin as one")
    version = fields.number("<I")
    if version not in VERSIONS:
        raise _refuse(path, f"is of version {version} (or big-endian)")
    tensors, keys = fields.number("<Q"), fields.number("<Q")
    _at_most(path, "tensors", tensors, limits.tensors, "teacher.limits.tensors")
    _at_most(path, "settings", keys, MOST_KEYS)
    settings = _named(path, "setting", ((fields.text(), fields.value(limits.integer)) for _ in range(keys)))
    described = _named(path, "tensor", ((fields.text(), fields.tensor()) for _ in range(tensors)))
    alignment = settings.get(ALIGNMENT_KEY, ALIGNMENT)
    if type(alignment) is not int or alignment not in {2**power for power in range(3, 13)}:
        raise _refuse(path, f"has {ALIGNMENT_KEY}: {alignment!r}")
    return Header(settings, _placed(path, described, fields.taken, alignment, size, limits))


class _Fields:
    """The fields of a header one after another, never behind the end of the file or of what it may have."""

    def __init__(self, stream: BinaryIO, path: Path, most: int) -> None:
        self.stream, self.path, self.most, self.taken = stream, path, most, 0

    def take(self, count: int) -> bytes:
        if count > self.most - self.taken:
            raise InputError(
                f"'{self.path}' announces {count} bytes behind byte {self.taken}, and its header may have {self.most}",
                expected="an intact GGUF file with a header within teacher.limits.json_bytes",
            )
        raw = self.stream.read(count)
        if len(raw) < count:
            raise _refuse(self.path, "became shorter while it was read")
        self.taken += count
        return raw

    def number(self, code: str) -> Any:
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def text(self) -> str:
        raw = self.take(self.number("<Q"))
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise _refuse(self.path, f"has text that is no UTF-8 before byte {self.taken}") from error

    def value(self, longest: int) -> Any:
        kind = self.number("<I")
        if kind != ARRAY:
            return self._single(kind)
        kind, count = self.number("<I"), self.number("<Q")
        _at_most(self.path, "values in an array", count, longest, "teacher.limits.integer")
        if kind in SCALARS:
            return np.frombuffer(self.take(count * struct.calcsize(SCALARS[kind])), SCALARS[kind]).tolist()
        return [self._single(kind) for _ in range(count)]

    def _single(self, kind: int) -> Any:
        if kind == STRING:
            return self.text()
        if kind not in SCALARS:
            raise _refuse(self.path, f"has a setting of type {kind} before byte {self.taken}")
        value = self.number(SCALARS[kind])
        return float(str(np.float32(value))) if kind == FLOAT32 else value

    def tensor(self) -> tuple[int, tuple[int, ...], int]:
        """Return type, shape and offset as they are stated."""
        dimensions = self.number("<I")
        _at_most(self.path, "dimensions of a tensor", dimensions, MOST_DIMENSIONS)
        shape = tuple(self.number("<Q") for _ in range(dimensions))[::-1]
        return self.number("<I"), shape, self.number("<Q")


def _named(path: Path, what: str, pairs: Iterator[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _refuse(path, f"has the {what} {name[:SHOWN]!r} twice")
        found[name] = value
    return found


def _placed(
    path: Path,
    described: dict[str, tuple[int, tuple[int, ...], int]],
    taken: int,
    alignment: int,
    size: int,
    limits: ImportLimits,
) -> dict[str, Stored]:
    """Check that the tensors fill the file, one after another, each as large as its shape says."""
    placed, elements = {}, 0
    start = end = taken + -taken % alignment
    for name, (number, shape, offset) in described.items():
        kind, block, block_bytes = _type(path, name, number)
        if not shape or min(shape) < 1 or shape[-1] % block:
            raise _refuse(path, f"gives tensor {name[:SHOWN]!r} of {kind} the shape {shape}")
        elements += math.prod(shape)
        _at_most(
            path, "weights", elements, min(limits.parameters, limits.total_bytes // 4), "teacher.limits.parameters"
        )
        end += -end % alignment
        if start + offset != end:
            raise _refuse(
                path, f"has tensor {name[:SHOWN]!r} at byte {start + offset}, where {end} is the next free one"
            )
        placed[name] = Stored(kind, shape, end, shape[-1] // block * block_bytes)
        end += math.prod(shape) // block * block_bytes
    if not end <= size <= end + -end % alignment:
        raise _refuse(path, f"has {size} bytes, and its tensors end at byte {end}")
    return placed


def _type(path: Path, name: str, number: int) -> tuple[str, int, int]:
    """Return a tensor type's name, the values of a block, and its bytes."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    kind = next((one for one in GGMLQuantizationType if one == number), None)
    if kind is None or kind.name not in TYPES:
        raise InputError(
            f"'{path}' stores tensor {name[:SHOWN]!r} as {kind.name if kind else f'type {number}'}",
            expected=f"only {', '.join(TYPES)}",
            next_step="take a file in one of these, or the checkpoint it was made from",
        )
    return (kind.name, *GGML_QUANT_SIZES[kind])


def _at_most(path: Path, what: str, count: int, most: int, limit: str = "") -> None:
    if count > most:
        raise InputError(f"'{path}' announces {count} {what}", expected=f"at most {most}{limit and f' ({limit})'}")


def _refuse(path: Path, problem: str) -> InputError:
    return InputError(f"'{path}' {problem}", expected="an intact GGUF file")
