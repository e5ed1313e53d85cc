"""Read and write ONNX Runtime's own format so that equal models have equal bytes.

ONNX Runtime writes weights, names, settings and kernels in the order of its hash tables, another one at every export.
The file is a FlatBuffer; here it is read whole, what has no order is sorted, and it is written again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stages.core.errors import ArtifactError

IDENTIFIER = b"ORTM"
# onnxruntime/core/flatbuffers/schema/ort.fbs of 1.32 (format 6), fields in the order of their slots. `[T]` has an order
# and `{T}` has none; `-` is what no classifier has: sparse weights, graphs in graphs, saved optimisations.
_FIELDS = {
    "InferenceSession": "str Model - KernelTypeStrResolver",
    "Model": "i64 {OperatorSetId} str str str i64 str Graph str {StringStringEntry}",
    "OperatorSetId": "str i64",
    "StringStringEntry": "str str",
    "Graph": "{Tensor} {ValueInfo} [Node] u32 [NodeEdge] [str] [str] - -",
    "Tensor": "str str [i64] i32 bytes [str] i64",
    "ValueInfo": "str str TypeInfo",
    "TypeInfo": "str u8 TensorTypeAndShape",
    "TensorTypeAndShape": "i32 Shape",
    "Shape": "[Dimension]",
    "Dimension": "DimensionValue str",
    "DimensionValue": "i8 i64 str",
    "Node": "str str str i32 u32 str i32 str [str] [str] {Attribute} [i32] [str]",
    "Attribute": "str str i32 f32 i64 str Tensor - [f32] [i64] [str] [Tensor] -",
    "NodeEdge": "u32 [EdgeEnd] [EdgeEnd]",
    "KernelTypeStrResolver": "{OpIdKernelTypeStrArgsEntry}",
    "OpIdKernelTypeStrArgsEntry": "str {KernelTypeStrArgsEntry}",
    "KernelTypeStrArgsEntry": "str [ArgTypeAndIndex]",
    "ArgTypeAndIndex": "i8 u32",
}
TABLES = {name: tuple(fields.split()) for name, fields in _FIELDS.items()}
STRUCTS = {"EdgeEnd": ("u32", "i32", "i32")}
TENSOR_TYPE = 1
"""Of the types that a value may have, the one whose fields are known here."""
ALIGNMENT = 16
"""Bytes: weights may be read where they lie."""

Record = tuple[Any, ...]
"""A table's fields by slot: numbers, bytes, records or tuples of them, None where the file leaves one out."""


def canonical(content: bytes) -> bytes:
    """Return the same model in the order that follows from it.

    Raises:
        ArtifactError: it is not a model in ONNX Runtime's format, or has parts that are not known here.
    """
    return write(read(content))


def read(content: bytes) -> Record:
    """Return the `InferenceSession` of a file, what has no order sorted.

    Raises:
        ArtifactError: see `canonical`.
    """
    from flatbuffers import encode, packer, table  # type: ignore[import-untyped]

    if content[4:8] != IDENTIFIER:
        raise ArtifactError("not a model in ONNX Runtime's format", expected=f"'{IDENTIFIER.decode()}' as its mark")
    root = encode.Get(packer.uoffset, content, 0)
    return _record(table.Table(content, root), "InferenceSession")


def operators(session: Record) -> Iterator[tuple[str, int, str]]:
    """Yield domain, version and type of every node."""
    for node in session[1][7][2]:
        yield (node[2] or b"").decode() or "ai.onnx", node[3], node[5].decode()


def _record(found: Any, name: str) -> Record:
    if _slots(found) > len(TABLES[name]):  # a newer ONNX Runtime; what is not read would be lost
        raise ArtifactError(f"'{name}' of ONNX Runtime's format has a field that is not known here")
    fields = tuple(_field(found, slot, kind) for slot, kind in enumerate(TABLES[name]))
    if name == "TypeInfo" and fields[1] != TENSOR_TYPE:
        raise ArtifactError(f"a value is of type {fields[1]} of ONNX Runtime's format", expected="tensors only")
    return fields


def _slots(found: Any) -> int:
    """Number of fields that a table has room for; those at the end that are left out have none."""
    from flatbuffers import number_types as types

    header = found.Pos - found.Get(types.SOffsetTFlags, found.Pos)
    return int(found.Get(types.VOffsetTFlags, header)) // 2 - 2


def _field(found: Any, slot: int, kind: str) -> Any:
    from flatbuffers import table

    offset = found.Offset(4 + 2 * slot)
    if not offset:
        return None
    if kind in _numbers():
        return found.Get(_numbers()[kind], found.Pos + offset)
    if kind == "str":
        return found.String(found.Pos + offset)
    if kind in TABLES:
        return _record(table.Table(found.Bytes, found.Indirect(found.Pos + offset)), kind)
    start, count = found.Vector(offset), found.VectorLen(offset)
    if kind == "bytes":
        return bytes(found.Bytes[start : start + count])
    if kind == "-":
        if count:
            raise ArtifactError(f"field {slot} of ONNX Runtime's format is not known here", expected="a plain graph")
        return None
    items = tuple(_items(found, start, count, kind[1:-1]))
    return tuple(sorted(items, key=lambda item: item[0] or b"")) if kind.startswith("{") else items  # by name


def _items(found: Any, start: int, count: int, kind: str) -> Iterator[Any]:
    from flatbuffers import table

    for index in range(count):
        if kind == "str":
            yield found.String(start + 4 * index)
        elif kind in TABLES:
            yield _record(table.Table(found.Bytes, found.Indirect(start + 4 * index)), kind)
        else:
            parts = _parts(kind)
            at = start + sum(part.bytewidth for part in parts) * index
            fields = tuple(found.Get(part, at + parts[0].bytewidth * place) for place, part in enumerate(parts))
            yield fields if kind in STRUCTS else fields[0]


def write(session: Record) -> bytes:
    """Write what `read` returns; the same records give the same bytes."""
    return _Writer().file(session)


class _Writer:
    """Builds one file; a string that occurs twice is stored once."""

    def __init__(self) -> None:
        import flatbuffers

        self._builder = flatbuffers.Builder(1 << 20)
        self._strings: dict[bytes, int] = {}

    def file(self, session: Record) -> bytes:
        self._builder.Finish(self._record(session, "InferenceSession"), file_identifier=IDENTIFIER)
        return bytes(self._builder.Output())

    def _record(self, value: Record, name: str) -> int:
        made = [self._value(item, kind) for item, kind in zip(value, TABLES[name], strict=True)]
        self._builder.StartObject(len(made))
        for slot, (item, kind) in enumerate(zip(made, TABLES[name], strict=True)):
            if item is not None and kind in _numbers():
                self._builder.PrependSlot(_numbers()[kind], slot, item, None)
            elif item is not None:
                self._builder.PrependUOffsetTRelativeSlot(slot, item, 0)
        return int(self._builder.EndObject())

    def _value(self, value: Any, kind: str) -> Any:
        """Return a number as it is, and where anything else was written."""
        if value is None or kind in _numbers():
            return value
        if kind == "str":
            if value not in self._strings:
                self._strings[value] = self._builder.CreateString(value)
            return self._strings[value]
        if kind == "bytes":
            return self._bytes(value)
        return self._record(value, kind) if kind in TABLES else self._vector(value, kind[1:-1])

    def _vector(self, values: Record, kind: str) -> int:
        if kind == "str" or kind in TABLES:
            places = [self._value(value, kind) for value in values]
            self._builder.StartVector(4, len(places), 4)
            for place in reversed(places):
                self._builder.PrependUOffsetTRelative(place)
            return int(self._builder.EndVector())
        parts = _parts(kind)
        self._builder.StartVector(sum(part.bytewidth for part in parts), len(values), parts[0].bytewidth)
        for value in reversed(values):
            numbers = value if kind in STRUCTS else (value,)
            for part, number in reversed(list(zip(parts, numbers, strict=True))):
                self._builder.Prepend(part, number)
        return int(self._builder.EndVector())

    def _bytes(self, value: bytes) -> int:
        self._builder.StartVector(1, len(value), ALIGNMENT)
        self._builder.head -= len(value)
        self._builder.Bytes[self._builder.head : self._builder.head + len(value)] = value
        return int(self._builder.EndVector())


def _parts(kind: str) -> list[Any]:
    """Types of the numbers that an item of a vector is made of, all of one width."""
    return [_numbers()[part] for part in STRUCTS.get(kind, (kind,))]


def _numbers() -> dict[str, Any]:
    from flatbuffers import number_types as types

    return {
        "f32": types.Float32Flags,
        "i8": types.Int8Flags,
        "i32": types.Int32Flags,
        "i64": types.Int64Flags,
        "u8": types.Uint8Flags,
        "u32": types.Uint32Flags,
    }
