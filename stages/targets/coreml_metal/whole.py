"""Hold the package of a Core ML artifact to what `structure` reads of it: the rest would ship unseen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stages.coreml import dtypes, proto
from stages.targets import messages
from stages.targets.base import read_signature
from stages.targets.coreml_metal import POSITION, UNROUNDED, WIDE, canonical
from stages.targets.coreml_metal.package import (
    BLOB_HEADER,
    FILE_HEADER,
    MANIFEST,
    PACKAGE,
    PROGRAM,
    SENTINEL,
    WEIGHTS,
    blob_offsets,
    read_blobs,
)
from stages.tasks.base import Call

FILES = {PACKAGE}
"""What `quantize` writes for this target."""
CONVERTED = {PACKAGE, UNROUNDED}
"""What `convert` writes."""
FIELDS: messages.Fields = {
    "Model": {"specificationVersion", "description", "mlProgram"},
    "ModelDescription": {"input", "output", "state", "metadata"},
    "FeatureDescription": {"name", "type"},
    "FeatureType": {"multiArrayType", "stateType"},
    "StateFeatureType": {"arrayType"},
    "ArrayFeatureType": {"shape", "dataType", "enumeratedShapes", "shapeRange"},
    "ShapeRange": {"sizeRanges"},
    "SizeRange": {"lowerBound", "upperBound"},
    "EnumeratedShapes": {"shapes"},
    "Shape": {"shape"},
    "Program": {"version", "functions"},
    "Function": {"inputs", "opset", "block_specializations"},
    "Block": {"operations", "outputs"},
    "Operation": {"type", "inputs", "outputs", "attributes"},
    "Argument": {"arguments"},
    "Binding": {"name", "value"},
    "NamedValueType": {"name", "type"},
    "ValueType": {"tensorType", "stateType"},
    "StateType": {"wrappedType"},
    "TensorType": {"dataType", "rank", "dimensions"},
    "Dimension": {"constant", "unknown"},
    "ConstantDimension": {"size"},
    "Value": {"type", "immediateValue", "blobFileValue"},
    "ImmediateValue": {"tensor"},
    "BlobFileValue": {"fileName", "offset"},
    "TensorValue": {"floats", "ints", "bools", "strings", "longInts", "doubles", "bytes"},
} | {f"Repeated{kind}": {"values"} for kind in ("Floats", "Ints", "Bools", "Strings", "LongInts", "Doubles", "Bytes")}
"""No metadata, descriptions, nested blocks, default values, updatable parameters, features of functions."""
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}\Z")


def strays(converted: Path, artifact: Path) -> list[str]:
    """Name what a package holds that comparing programs does not account for.

    Returns:
        One line for each: files, fields, functions, blobs and operations that lead nowhere, declarations that differ.

    Raises:
        ArtifactError: a file is missing or damaged.
    """
    first, second = (proto.read_model(directory / PACKAGE / PROGRAM) for directory in (converted, artifact))
    (call,) = read_signature(converted).calls
    before, after = _declared(first) | _wide(first), _declared(second) | _wide(second)
    found = [f"the converted model: {line}" for line in _strays(first, converted / PACKAGE, call)]
    found += _strays(second, artifact / PACKAGE, call)
    return found + [
        f"{key} is {after.get(key, 'not there')}, the converted model's {before[key]}"
        for key in before
        if before[key] != after.get(key)
    ]


def _strays(model: Any, package: Path, call: Call) -> Iterator[str]:
    yield from (f"file '{name}' is no part of it" for name in sorted(_foreign(package)))
    if (package / MANIFEST).read_text(encoding="utf-8") != canonical.manifest():
        yield f"its {MANIFEST} is not that of one program and its weights"
    yield from _functions(model, call)
    offsets = {offset for operation in _operations(model) for offset in blob_offsets(operation)}
    yield from _weights(package / WEIGHTS, offsets)
    # Last: it drops what it does not know.
    yield from messages.strays(model, (package / PROGRAM).read_bytes(), FIELDS)


def _foreign(package: Path) -> set[str]:
    ours = {Path(MANIFEST), PROGRAM, WEIGHTS, *PROGRAM.parents, *WEIGHTS.parents}
    return {path.as_posix() for path in (item.relative_to(package) for item in package.rglob("*")) if path not in ours}


def _functions(model: Any, call: Call) -> Iterator[str]:
    program = model.mlProgram
    if set(program.functions) != {"main"} or any(
        len(one.block_specializations) != 1 for one in program.functions.values()
    ):
        yield f"it has the functions {sorted(program.functions)}, expected 'main', in one form"
        return
    function, described = program.functions["main"], model.description
    inputs, outputs = (
        [item.name for item in function.inputs],
        list(function.block_specializations[function.opset].outputs),
    )
    wanted, given = _names(call)
    states = [tensor.name for tensor in call.states]
    shown, kept, out = ([item.name for item in items] for items in (described.input, described.state, described.output))
    for place, found in (("its program", (inputs, outputs)), ("its description", ([*shown, *kept], out))):
        if found != ([*wanted, *states], given):
            yield f"{place} maps {found[0]} to {found[1]}, expected {[*wanted, *states]} to {given}, in this order"
    reached = {*outputs, *states}
    for operation in reversed(_operations(model)):
        made = [item.name for item in operation.outputs]
        read = {one.name for argument in operation.inputs.values() for one in argument.arguments if one.name}
        if not reached & set(made or read):
            yield f"'{made[0] if made else operation.type}' ({operation.type}) is computed and not read"
        reached |= read
        yield from _called(operation)


def _called(operation: Any) -> Iterator[str]:
    """Names that no compiler gives; settings beside the name the executor refuses."""
    names = list(operation.attributes["name"].immediateValue.tensor.strings.values)
    for name in (*names, *(item.name for item in operation.outputs)):
        if not IDENTIFIER.match(name):
            yield f"a {operation.type} is called '{name[:60]}', expected an identifier"


def _names(call: Call) -> tuple[list[str], list[str]]:
    """Name the program's inputs and outputs in order, without its states: which call comes when, the caller counts."""
    inputs, outputs = call.names
    return [*inputs, POSITION] if call.states else inputs, outputs


def _operations(model: Any) -> list[Any]:
    functions = model.mlProgram.functions.values()
    return [one for item in functions for block in item.block_specializations.values() for one in block.operations]


def _weights(path: Path, offsets: set[int]) -> Iterator[str]:
    """Write the file anew from the blobs that it lists, and compare."""
    blobs = read_blobs(path)
    unread = [blob for blob in blobs if blob.header not in offsets]
    if unread:
        yield f"{len(unread)} of {len(blobs)} blobs in {path.name} are not read"
    data = np.fromfile(path, np.uint8)
    end = max((blob.header + BLOB_HEADER.size + blob.size_bytes for blob in blobs), default=FILE_HEADER.size)
    wanted = np.zeros(end if len(data) == end else -(-end // 64) * 64, np.uint8)  # the last may be filled up, or not
    FILE_HEADER.pack_into(wanted.data, 0, len(blobs), 2)
    for blob in blobs:
        kind = dtypes.BY_BLOB_CODE.get(blob.dtype)
        # Of whole bytes nothing is padding; of smaller numbers the executor checks how many bits are.
        padding = 0 if kind is None or kind.bits >= 8 else int(data[blob.header + 24 : blob.header + 32].view("<u8")[0])
        start = blob.header + BLOB_HEADER.size
        BLOB_HEADER.pack_into(wanted.data, blob.header, SENTINEL, blob.dtype, blob.size_bytes, start, padding)
        wanted[start : start + blob.size_bytes] = data[blob.offset : blob.offset + blob.size_bytes]
    if not np.array_equal(data, wanted):
        yield f"of {len(data)} bytes in {path.name} not all belong to a blob"


def _declared(model: Any) -> dict[str, str]:
    """What a package says of itself beside its program."""
    return {
        "specification version": str(model.specificationVersion),
        "opset": str([item.opset for item in model.mlProgram.functions.values()]),
        "inputs": str([_feature(item) for item in model.description.input]),
        "outputs": str([_feature(item) for item in model.description.output]),
        "states": str([_feature(item) for item in model.description.state]),
    }


def _wide(model: Any) -> dict[str, str]:
    """Say what computes in fp32 at every precision: comparing programs takes number formats away."""
    return {
        f"'{item.name}'": f"{operation.type} of {dtypes.from_mil(item.type.tensorType.dataType).name}"
        for operation in _operations(model)
        for item in operation.outputs
        if item.name.endswith(WIDE)
    }


def _feature(item: Any) -> str:
    stateful = item.type.WhichOneof("Type") == "stateType"
    kind = item.type.stateType.arrayType if stateful else item.type.multiArrayType
    shapes = [list(shape.shape) for shape in kind.enumeratedShapes.shapes] or [list(kind.shape)]
    ranges = [(size.lowerBound, size.upperBound) for size in kind.shapeRange.sizeRanges]
    return f"{item.name} {kind.ArrayDataType.Name(kind.dataType)} {list(kind.shape)} of {ranges or shapes}"
