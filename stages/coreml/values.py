"""Constants of a program: types and values of MIL.proto as plain Python and numpy."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.coreml import dtypes
from stages.coreml.blob import WeightFile
from stages.coreml.dtypes import Array, DType
from stages.coreml.errors import Malformed, UnsupportedOp

_BLOB_NAME = re.compile(r"@model_path/weights/([A-Za-z0-9_\-]+\.bin)\Z")
_MAX_DEPTH = 8
"""Nesting of lists and dictionaries; deeper files are built to overflow the stack."""


@dataclass(frozen=True)
class TensorType:
    """Element type and shape; None stands for a dimension known only when inputs arrive.

    Attributes:
        variadic: position of the None that stands for any number of dimensions.
    """

    dtype: DType
    shape: tuple[int | None, ...]
    variadic: int | None = None

    @property
    def fixed(self) -> tuple[int, ...] | None:
        """The shape where every dimension is known."""
        return None if None in self.shape else self.shape  # type: ignore[return-value]

    def admits(self, shape: tuple[int, ...]) -> bool:
        """Whether a value of this shape is of this type."""
        wanted = self.shape
        if self.variadic is not None:
            unknown = (None,) * (len(shape) - len(wanted) + 1)
            wanted = wanted[: self.variadic] + unknown + wanted[self.variadic + 1 :]
        if len(shape) != len(wanted):
            return False
        for want, have in zip(wanted, shape, strict=True):  # noqa: SIM110 (plainly: asked of nearly every tensor)
            if want is not None and want != have:
                return False
        return True

    def __str__(self) -> str:
        sizes = ["?" if size is None else str(size) for size in self.shape]
        if self.variadic is not None:
            sizes[self.variadic] = "..."
        return f"{self.dtype.name}[{', '.join(sizes)}]"


@dataclass(frozen=True)
class StateType:
    """A tensor that outlives a call."""

    tensor: TensorType


@dataclass(frozen=True)
class ListType:
    """A list of tensors of one type."""

    element: TensorType


@dataclass(frozen=True)
class DictionaryType:
    """The label → probability map of a classifier."""


Type = TensorType | StateType | ListType | DictionaryType
Value = Array | str | list[Any] | dict[Any, Any]


def read_type(message: Any, depth: int = 0) -> Type:
    """Convert a `ValueType`.

    Raises:
        UnsupportedOp: tuples, several variadic dimensions, unknown element types.
        Malformed: rank and dimensions disagree.
    """
    kind = message.WhichOneof("type")
    if depth > _MAX_DEPTH:
        raise Malformed("a type is nested too deeply")
    if kind == "tensorType":
        return _tensor_type(message.tensorType)
    if kind in ("stateType", "listType"):
        inner = read_type(message.stateType.wrappedType if kind == "stateType" else message.listType.type, depth + 1)
        if not isinstance(inner, TensorType):
            raise UnsupportedOp(f"a {kind} of something other than tensors")
        return StateType(inner) if kind == "stateType" else ListType(inner)
    if kind == "dictionaryType":
        return DictionaryType()
    raise UnsupportedOp(f"values of type '{kind}'")


def _tensor_type(message: Any) -> TensorType:
    dims: list[int | None] = []
    for dimension in message.dimensions:
        fixed = dimension.WhichOneof("dimension") == "constant"
        dims.append(int(dimension.constant.size) if fixed else None)
    if message.rank != len(dims):
        raise Malformed(f"a tensor type of rank {message.rank} lists {len(dims)} dimensions")
    variadic = [index for index, dimension in enumerate(message.dimensions) if dimension.unknown.variadic]
    if len(variadic) > 1:
        raise UnsupportedOp("a tensor type with several variadic dimensions", expected="at most one")
    return TensorType(dtypes.from_mil(message.dataType), tuple(dims), variadic[0] if variadic else None)


class Constants:
    """Reads `Value` messages; weight files are opened once, and only from the package's own folder."""

    def __init__(self, weights: Path) -> None:
        """Remember the folder that `@model_path/weights` stands for."""
        self._folder = weights
        self._files: dict[str, WeightFile] = {}

    def read(self, message: Any, depth: int = 0) -> Value:
        """Convert a `Value`.

        Returns:
            An array in its declared type's numpy storage, a string, a list or a dictionary.

        Raises:
            Malformed: lengths, shapes and types that disagree, or a blob outside the package.
        """
        if depth > _MAX_DEPTH:
            raise Malformed("a constant is nested too deeply")
        if message.WhichOneof("value") == "blobFileValue":
            return self._blob(message)
        if message.WhichOneof("value") != "immediateValue":
            raise Malformed("a constant without a value")
        immediate = message.immediateValue
        kind = immediate.WhichOneof("value")
        if kind == "tensor":
            return _immediate(read_type(message.type), immediate.tensor)
        if kind == "list":
            return [self.read(item, depth + 1) for item in immediate.list.values]
        if kind == "dictionary":
            pairs = [(self.read(p.key, depth + 1), self.read(p.value, depth + 1)) for p in immediate.dictionary.values]
            return {_plain(key): _plain(value) for key, value in pairs}
        raise UnsupportedOp(f"constants of kind '{kind}'")

    def _blob(self, message: Any) -> Array:
        kind = read_type(message.type)
        match = _BLOB_NAME.match(message.blobFileValue.fileName)
        if match is None:
            raise Malformed(f"weight file '{message.blobFileValue.fileName}'", expected="@model_path/weights/NAME.bin")
        if not isinstance(kind, TensorType) or kind.fixed is None or min(kind.fixed, default=0) < 0:
            raise Malformed(f"a blob of type '{kind}'", expected="a tensor of fixed shape")
        name = match.group(1)
        if name not in self._files:
            self._files[name] = WeightFile(self._folder / name)
        return self._files[name].read(message.blobFileValue.offset, kind.dtype, kind.fixed)


def _immediate(kind: Type, message: Any) -> Value:
    if not isinstance(kind, TensorType) or kind.fixed is None or min(kind.fixed, default=0) < 0:
        raise Malformed(f"an immediate tensor of type '{kind}'", expected="a tensor of fixed shape")
    field, shape = message.WhichOneof("value"), kind.fixed
    count = math.prod(shape)
    if field is None and count:
        raise Malformed(f"an immediate tensor of type '{kind}' without elements")
    if field == "strings":
        strings = list(message.strings.values)
        if kind.dtype is not dtypes.STRING or len(strings) != count:
            raise Malformed(f"{len(strings)} strings for type '{kind}'")
        return strings if kind.shape else str(strings[0])
    flat = _bytes(kind, message.bytes.values, count) if field == "bytes" else _numbers(kind, message, field, count)
    return flat.reshape(shape)


def _bytes(kind: TensorType, raw: bytes, count: int) -> Array:
    expected = -(-count * kind.dtype.bits // 8)
    if len(raw) != expected or kind.dtype is dtypes.STRING:
        raise Malformed(f"{len(raw)} bytes for type '{kind}'", expected=str(expected))
    return dtypes.decode(np.frombuffer(raw, np.uint8), count, kind.dtype)


_FIELDS = {
    "floats": (dtypes.FP32,),
    "doubles": (dtypes.FP64,),
    "bools": (dtypes.BOOL,),
    "ints": (dtypes.INT32, dtypes.INT16, dtypes.INT8, dtypes.UINT8, dtypes.UINT16, dtypes.UINT32),
    "longInts": (dtypes.INT64, dtypes.UINT64),
}


def _numbers(kind: TensorType, message: Any, field: str | None, count: int) -> Array:
    if field is None:
        return np.zeros(count, kind.dtype.numpy)
    values = getattr(message, field).values
    if kind.dtype not in _FIELDS.get(field, ()) or len(values) != count:
        raise Malformed(f"{len(values)} immediate '{field}' for type '{kind}'")
    try:
        return np.array(list(values), dtype=kind.dtype.numpy)
    except OverflowError as error:
        raise Malformed(f"an immediate value does not fit type '{kind}': {error}") from error


def _plain(value: Value) -> Any:
    if isinstance(value, np.ndarray):
        if value.size != 1:
            raise Malformed("a dictionary constant with a key or value that is no scalar")
        return value.item()
    if isinstance(value, str):
        return value
    raise Malformed("a dictionary constant with a key or value that is no scalar")
