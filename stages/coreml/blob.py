"""Weight files of Core ML packages (blob storage version 2): nothing the file says about itself is trusted.

Layout, after coremltools' MILBlob/Blob/StorageFormat.hpp: a header of 64 bytes (count, version), then per blob a
record of 64 bytes (sentinel, element type, size, offset of the data, padding in bits) and its data, all aligned
to 64 bytes, little-endian.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np

from stages.coreml import dtypes
from stages.coreml.dtypes import Array, DType
from stages.coreml.errors import Malformed

_ALIGNMENT = 64
_VERSION = 2
_SENTINEL = 0xDEADBEEF
_RECORD = struct.Struct("<IIQQQ")


class WeightFile:
    """A memory-mapped weight file; arrays are views of it, or unpacked copies for types under a byte."""

    def __init__(self, path: Path) -> None:
        """Map a file.

        Raises:
            Malformed: absent, shorter than a header or of another version.
        """
        self.path = path
        try:
            size = path.stat().st_size
            # A plain array: views of `memmap`, and what is computed from them, would pass through its Python code.
            self._bytes: Array = np.asarray(np.memmap(path, np.uint8, "r")) if size else np.zeros(0, np.uint8)
        except OSError as error:
            raise Malformed(f"cannot read weight file '{path}': {error.strerror}") from error
        if size < _ALIGNMENT:
            raise Malformed(f"weight file '{path}' is {size} bytes", expected=f"a header of {_ALIGNMENT}")
        self.count, version = struct.unpack_from("<II", self._bytes[:8].tobytes())
        if version != _VERSION:
            raise Malformed(f"weight file '{path}' has storage version {version}", expected=str(_VERSION))

    def read(self, offset: int, dtype: DType, shape: tuple[int, ...]) -> Array:
        """Return the blob whose record lies at an offset.

        Args:
            offset: bytes from the start of the file.
            dtype: the element type the program declares.
            shape: the shape the program declares.

        Returns:
            A read-only array of `shape` in `dtype.numpy`.

        Raises:
            Malformed: the record is not there, is of another type, or does not hold exactly these elements.
        """
        where = f"blob at {offset} of '{self.path.name}'"
        if offset % _ALIGNMENT or offset < _ALIGNMENT or offset + _ALIGNMENT > self._bytes.size:
            raise Malformed(f"{where}: offset outside the file or not a multiple of {_ALIGNMENT}")
        sentinel, code, size, start, padding = _RECORD.unpack(self._bytes[offset : offset + _RECORD.size].tobytes())
        if sentinel != _SENTINEL:
            raise Malformed(f"{where}: no blob record there")
        if dtypes.BY_BLOB_CODE.get(code) is not dtype:
            raise Malformed(f"{where}: element type code {code}", expected=f"'{dtype.name}', as the program declares")
        if start % _ALIGNMENT or start + size > self._bytes.size:
            raise Malformed(f"{where}: data at {start} of {size} bytes leave the file of {self._bytes.size}")
        count = math.prod(shape)
        _check_length(where, size, count, dtype, padding)
        return dtypes.decode(self._bytes[start : start + size], count, dtype).reshape(shape)


def _check_length(where: str, size: int, count: int, dtype: DType, padding: int) -> None:
    expected = -(-count * dtype.bits // 8)
    if size != expected:
        raise Malformed(f"{where}: {size} bytes", expected=f"{expected} for {count} elements of '{dtype.name}'")
    # Before iOS 18 the field was reserved and may hold anything, but then there were no types under a byte.
    if dtype.bits < 8 and padding != size * 8 - count * dtype.bits:
        raise Malformed(f"{where}: {padding} bits of padding", expected=str(size * 8 - count * dtype.bits))
