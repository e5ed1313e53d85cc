"""The tensor element types of MIL and how each is held in numpy.

Codes are those of `MIL.proto` (`DataType`) and of the weight file (`BlobDataType` in coremltools'
MILBlob/Blob/BlobDataType.hpp). Types under a byte are unpacked into int8 or uint8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from stages.core.packing import unpack
from stages.coreml.errors import UnsupportedOp

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class DType:
    """An element type: its name in MIL text, width in bits, family, numpy storage and carrier."""

    name: str
    bits: int
    kind: Literal["bool", "float", "int", "uint", "string"]
    numpy: np.dtype[Any]
    carrier: np.dtype[Any]
    """The numpy type values travel in: fp16 tensors are carried in fp32 and rounded where a mode says so."""


def _dtype(name: str, bits: int, kind: Any, storage: Any) -> DType:
    own = np.dtype(storage)
    return DType(name, bits, kind, own, np.dtype(np.float32) if own == np.float16 else own)


BOOL = _dtype("bool", 8, "bool", np.bool_)
STRING = _dtype("string", 0, "string", np.object_)
FP16 = _dtype("fp16", 16, "float", np.float16)
FP32 = _dtype("fp32", 32, "float", np.float32)
FP64 = _dtype("fp64", 64, "float", np.float64)
INT4 = _dtype("int4", 4, "int", np.int8)
INT8 = _dtype("int8", 8, "int", np.int8)
INT16 = _dtype("int16", 16, "int", np.int16)
INT32 = _dtype("int32", 32, "int", np.int32)
INT64 = _dtype("int64", 64, "int", np.int64)
UINT1 = _dtype("uint1", 1, "uint", np.uint8)
UINT2 = _dtype("uint2", 2, "uint", np.uint8)
UINT3 = _dtype("uint3", 3, "uint", np.uint8)
UINT4 = _dtype("uint4", 4, "uint", np.uint8)
UINT6 = _dtype("uint6", 6, "uint", np.uint8)
UINT8 = _dtype("uint8", 8, "uint", np.uint8)
UINT16 = _dtype("uint16", 16, "uint", np.uint16)
UINT32 = _dtype("uint32", 32, "uint", np.uint32)
UINT64 = _dtype("uint64", 64, "uint", np.uint64)

BY_MIL_CODE = {
    1: BOOL, 2: STRING, 10: FP16, 11: FP32, 12: FP64, 21: INT8, 22: INT16, 23: INT32, 24: INT64, 25: INT4,
    31: UINT8, 32: UINT16, 33: UINT32, 34: UINT64, 35: UINT4, 36: UINT2, 37: UINT1, 38: UINT6, 39: UINT3,
}  # fmt: skip
BY_BLOB_CODE = {
    1: FP16, 2: FP32, 3: UINT8, 4: INT8, 6: INT16, 7: UINT16, 8: INT4, 9: UINT1, 10: UINT2, 11: UINT4,
    12: UINT3, 13: UINT6, 14: INT32, 15: UINT32,
}  # fmt: skip
BY_NAME = {dtype.name: dtype for dtype in BY_MIL_CODE.values()}


def from_mil(code: int) -> DType:
    """Return the type of a `MIL.proto` code.

    Raises:
        UnsupportedOp: bfloat16, float8 or a code of a later Core ML.
    """
    if code not in BY_MIL_CODE:
        raise UnsupportedOp(f"tensor element type {code} of MIL.proto", expected=f"one of: {', '.join(BY_NAME)}")
    return BY_MIL_CODE[code]


def from_name(name: str) -> DType:
    """Return the type a `dtype` parameter names.

    Raises:
        UnsupportedOp: no such type.
    """
    if name not in BY_NAME or name == "string":
        raise UnsupportedOp(f"element type '{name}'", expected=f"one of: {', '.join(BY_NAME)}")
    return BY_NAME[name]


def decode(raw: Array, count: int, dtype: DType) -> Array:
    """View little-endian bytes as `count` elements; the caller has checked the length."""
    return unpack(raw, count, dtype.bits, signed=dtype.kind == "int") if dtype.bits < 8 else raw.view(dtype.numpy)
