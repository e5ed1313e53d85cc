"""What an `.mlpackage` holds: its program, the constants in it, and where their bytes lie in `weight.bin`."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.errors import ArtifactError
from stages.targets.coreml_metal import toolchain

PACKAGE = "model.mlpackage"
MANIFEST = "Manifest.json"
PROGRAM = Path("Data/com.apple.CoreML/model.mlmodel")
WEIGHTS = Path("Data/com.apple.CoreML/weights/weight.bin")

# coremltools' MLModel/MIL/Blob/StorageFormat.hpp, version 2, little endian, headers of 64 bytes: the file begins with
# count and version, each blob with sentinel, type, size, offset and padding; the rest of a header is reserved.
FILE_HEADER = struct.Struct("<II56x")
BLOB_HEADER = struct.Struct("<IIQQQ32x")
SENTINEL = 0xDEADBEEF
BLOB_FLOATS = {1: np.float16, 2: np.float32}
FLOATS = {"FLOAT16": np.float16, "FLOAT32": np.float32}


@dataclass(frozen=True)
class Blob:
    """Bytes in `weight.bin`.

    Attributes:
        header: where its header begins; what the program refers to.
        dtype: type of its values, in the file format's own numbering.
        offset: where its data begins.
        size_bytes: how long the data is.
    """

    header: int
    dtype: int
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class Constant:
    """A tensor the program is born with.

    Attributes:
        name: of its value in the program.
        op: `const`, or the last `constexpr_…` that expands a compressed one.
        dtype: as the program computes with it (`FLOAT16`, …).
        shape: as the program computes with it.
        blobs: its bytes in `weight.bin`; empty where it stands in the program itself (fewer than ten values).
    """

    name: str
    op: str
    dtype: str
    shape: tuple[int, ...]
    blobs: tuple[Blob, ...]

    @property
    def stored_bytes(self) -> int:
        """Bytes in `weight.bin`."""
        return sum(blob.size_bytes for blob in self.blobs)

    @property
    def float_bytes(self) -> int:
        """Bytes it would take at its own floating-point type."""
        return prod(self.shape) * np.dtype(FLOATS[self.dtype]).itemsize

    @property
    def is_weight(self) -> bool:
        """Whether it is what compression is about: a float matrix or table kept in `weight.bin`."""
        return self.dtype in FLOATS and len(self.shape) >= 2 and bool(self.blobs)


def read_program(package: Path) -> Any:
    """Parse the `Model` message of a package.

    Raises:
        ArtifactError: it is missing or not a Core ML program.
    """
    toolchain.load()
    from coremltools.proto import Model_pb2
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    model = Model_pb2.Model()
    try:
        model.ParseFromString((package / PROGRAM).read_bytes())
    except (OSError, DecodeError) as error:
        raise ArtifactError(f"cannot read '{package}': {error}", next_step="run `dvc repro`") from error
    if model.WhichOneof("Type") != "mlProgram":
        raise ArtifactError(f"'{package}' is not an ML program", next_step="run `dvc repro`")
    return model


def operations(model: Any) -> list[Any]:
    """Return the operations of the program's one function, in order."""
    function = model.mlProgram.functions["main"]
    return list(function.block_specializations[function.opset].operations)


def constants(package: Path) -> list[Constant]:
    """List every tensor constant of a package, in program order; scalars left out."""
    model = read_program(package)
    from coremltools.proto import MIL_pb2

    blobs = {blob.header: blob for blob in read_blobs(package / WEIGHTS)}
    found, chained = [], dict[str, list[Blob]]()
    expanding = [one for one in operations(model) if one.type.startswith("constexpr_")]
    read = {name for operation in expanding for name in _names(operation)}
    for operation in operations(model):
        if operation.type != "const" and operation not in expanding:
            continue
        kind = operation.outputs[0].type.tensorType
        shape = tuple(int(dimension.constant.size) for dimension in kind.dimensions)
        parts = {name for name in _names(operation) if name in chained}
        stored = [blobs[offset] for offset in blob_offsets(operation)] + [
            one for name in parts for one in chained[name]
        ]
        if operation in expanding and operation.outputs[-1].name in read:
            chained[operation.outputs[-1].name] = stored
        elif shape:
            dtype = MIL_pb2.DataType.Name(kind.dataType)
            found.append(Constant(operation.outputs[0].name, operation.type, dtype, shape, tuple(stored)))
    return found


def looked_up(package: Path) -> set[str]:
    """Names of the values that a `gather` reads rows from."""
    return {
        argument.name
        for operation in operations(read_program(package))
        if operation.type == "gather"
        for argument in operation.inputs["x"].arguments
    }


def read_blobs(path: Path) -> list[Blob]:
    """List the blobs of a `weight.bin`, in file order.

    Raises:
        ArtifactError: the file is damaged or of another version.
    """
    data = path.read_bytes()
    try:
        count, version = FILE_HEADER.unpack_from(data)
        blobs, position = [], FILE_HEADER.size
        for _ in range(count if version == 2 else 0):
            sentinel, dtype, size, offset, _ = BLOB_HEADER.unpack_from(data, position)
            if sentinel != SENTINEL or offset + size > len(data):
                raise struct.error(f"no blob at {position}")
            blobs.append(Blob(position, dtype, offset, size))
            position = -(-(offset + size) // 64) * 64
    except struct.error as error:
        raise ArtifactError(f"'{path}' is damaged: {error}", next_step="run `dvc repro`") from error
    if version != 2:
        raise ArtifactError(f"'{path}' is of blob storage version {version}", expected="version 2")
    return blobs


def _names(operation: Any) -> list[str]:
    """Return the values that an operation reads by name."""
    return [one.name for argument in operation.inputs.values() for one in argument.arguments if one.name]


def blob_offsets(operation: Any) -> Iterator[int]:
    """Yield where in `weight.bin` the headers of an operation's constants begin."""
    yield from (value.offset for value in blob_values(operation))


def blob_values(operation: Any) -> Iterator[Any]:
    """Yield what an operation says of its constants in `weight.bin`."""
    # Up to iOS17 a constexpr op keeps its data in attributes, from iOS18 on in inputs.
    values = list(operation.attributes.values())
    for argument in operation.inputs.values():
        values += [binding.value for binding in argument.arguments if binding.WhichOneof("binding") == "value"]
    for value in values:
        if value.WhichOneof("value") == "blobFileValue":
            yield value.blobFileValue
