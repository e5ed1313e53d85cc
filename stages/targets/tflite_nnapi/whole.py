"""Hold the file of a TFLite artifact to what `structure` reads of it: the rest would ship unseen."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stages.targets.base import Signature, read_signature
from stages.targets.tflite_nnapi import flatbuffer, storage
from stages.targets.tflite_nnapi.entries import Names, entries
from stages.targets.tflite_nnapi.structure import GRIDS

FILES = {flatbuffer.MODEL}
"""What `quantize` writes for this target."""
CONVERTED = FILES
"""What `convert` writes."""
FIELDS: Mapping[str, Collection[str]] = {
    "ModelT": {"version", "operatorCodes", "subgraphs", "description", "buffers", "signatureDefs"},
    "OperatorCodeT": {"builtinCode", "deprecatedBuiltinCode", "version"},
    "SubGraphT": {"tensors", "inputs", "outputs", "operators", "name"},
    "TensorT": {"shape", "type", "buffer", "name", "quantization", "hasRank"},
    "QuantizationParametersT": {"scale", "zeroPoint", "quantizedDimension", "detailsType", "details"},
    "BlockwiseQuantizationT": {"scales", "zeroPoints", "blockSize"},
    "OperatorT": {"opcodeIndex", "inputs", "outputs", "builtinOptionsType", "builtinOptions"},
    "BufferT": {"data"},
    "SignatureDefT": {"inputs", "outputs", "signatureKey", "subgraphIndex"},
    "TensorMapT": {"name", "tensorIndex"},
}
"""Table → its fields that are read; of the options of an operator all are compared. No metadata, custom options, no
sparse, variable or external tensors, no ranges beside scales."""
ADDED = re.compile(r"(_(dequant|duplicated_\d+|quantized|scales))+\Z")
"""How ai-edge-quantizer names what it adds: a name of the converted model goes before."""


def strays(converted: Path, artifact: Path) -> list[str]:
    """Name what a file holds that comparing graphs does not account for.

    Returns:
        One line for each: fields, tensors, buffers and operators that lead nowhere, declarations that differ.

    Raises:
        ArtifactError: a file is missing or is not TFLite.
    """
    signature = read_signature(converted)
    source, made = (_read(directory / flatbuffer.MODEL, signature) for directory in (converted, artifact))
    found = [f"the converted model: {line}" for line in source.strays] + made.strays
    found += [
        f"{key} is {made.declared.get(key)}, the converted model's {source.declared.get(key)}"
        for key in {**source.declared, **made.declared}
        if source.declared.get(key) != made.declared.get(key)
    ]
    found += [
        f"{name} is of version {version}, expected {source.versions.get(name, 1)}"
        for name, version in made.versions.items()
        if version != source.versions.get(name, 1)
    ]
    return found + [
        f"'{name[:60]}' is no name of the converted model's, nor one that quantisation gives"
        for name in sorted(made.names - source.names)
        if ADDED.sub("", name) not in source.names
    ]


class _File(NamedTuple):
    """What is kept of a file: two models in memory at once are too many.

    Attributes:
        strays: what leads nowhere in it.
        declared: what it says of itself beside its operators; of each subgraph, what a client that counts inputs sees.
        versions: of operators: by them a runtime decides whether it is new enough, and we which runtimes are.
        names: of tensors.
    """

    strays: list[str]
    declared: dict[str, str]
    versions: dict[str, int]
    names: set[str]


def _read(path: Path, signature: Signature) -> _File:
    model = flatbuffer.read(path)
    found = list(_strays(model, path, signature))
    return _File(found, _declared(model), _versions(model), set(_tensor_names(model)))


def _strays(model: Any, path: Path, signature: Signature) -> Iterator[str]:
    yield from (f"{place} is set, which nothing reads" for place in _unknown(model, ""))
    content = path.read_bytes()
    if flatbuffer.packed(model) != content:
        yield f"of {len(content)} bytes not all belong to a table of the format"
    yield from (f"tensor '{name[:60]}' is there twice" for name, count in _tensor_names(model).items() if count > 1)
    signatures = {item.signatureKey.decode(): int(item.subgraphIndex) for item in model.signatureDefs}
    expected = entries(signature)
    if set(signatures) != set(expected) or sorted(signatures.values()) != list(range(len(model.subgraphs))):
        yield f"its signatures {sorted(signatures)} are of subgraphs {sorted(signatures.values())}"
    for position, graph in enumerate(model.subgraphs):
        name, (given, made) = _order(model, position)
        if (given, made) != expected.get(name):
            yield f"subgraph '{graph.name.decode()}' takes {given} and gives {made}, in another order than ours"
    yield from _unread(model)
    yield from _idle_grids(model)


def _unknown(table: Any, path: str) -> Iterator[str]:
    """Name what a table holds outside `FIELDS`, whatever differs from an empty one."""
    empty, fields = vars(type(table)()), FIELDS.get(type(table).__name__)
    for name, value in vars(table).items():
        place = f"{path}.{name}" if path else name
        if fields is not None and name not in fields:
            if not _is_empty(value, empty[name]):
                yield place
        elif isinstance(value, list):
            for position, item in enumerate(value):
                if hasattr(item, "__dict__"):
                    yield from _unknown(item, f"{place}[{position}]")
        elif hasattr(value, "__dict__"):
            yield from _unknown(value, place)


def _is_empty(value: Any, default: Any) -> bool:
    return value is None or (len(value) == 0 if hasattr(value, "__len__") else bool(value == default))


def _unread(model: Any) -> Iterator[str]:
    """Name what no output follows from."""
    buffers, codes = set[int](), set[int]()
    for graph in model.subgraphs:
        name = graph.name.decode()
        reached = {int(index) for index in (*graph.outputs, *graph.inputs)}
        for position in reversed(range(len(graph.operators))):
            operator = graph.operators[position]
            codes.add(int(operator.opcodeIndex))
            idle = [int(index) for index in operator.outputs if int(index) not in reached]
            yield from (f"'{graph.tensors[index].name.decode()}' is computed and not read" for index in idle)
            reached |= {int(index) for index in operator.inputs if index >= 0}
        scales = [storage.scales_of(graph.tensors[index]) for index in reached]
        reached |= {index for index in scales if index is not None}
        for index, tensor in enumerate(graph.tensors):
            if index in reached:
                buffers.add(int(tensor.buffer))
            else:
                yield f"tensor '{tensor.name.decode()[:60]}' of {name} is not read"
    for index, buffer in enumerate(model.buffers):
        if index not in buffers and buffer.data is not None and len(buffer.data):
            yield f"buffer {index} of {len(buffer.data)} bytes is not read"
    names = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    yield from (f"operator {code} is declared twice" for code in sorted(set(names)) if names.count(code) > 1)
    yield from (f"operator code {index} is not used" for index in sorted(set(range(len(model.operatorCodes))) - codes))


def _idle_grids(model: Any) -> Iterator[str]:
    """Name scales that a runtime does not read, or reads otherwise than `structure` does."""
    types = flatbuffer.tensor_types()
    for graph in model.subgraphs:
        computed = {int(index) for operator in graph.operators for index in operator.outputs}
        for index, tensor in enumerate(graph.tensors):
            found = tensor.quantization
            if found is None:
                continue
            count = 0 if found.scale is None else len(found.scale)
            points = np.zeros(0) if found.zeroPoint is None else np.asarray(found.zeroPoint)
            blocks = storage.scales_of(tensor) is not None
            odd = (
                (types[tensor.type] in storage.FLOATS and (count or blocks))
                or (index in computed and (count > 1 or blocks))
                or len(points) not in (0, 1, count)
                or (found.details is not None and (not blocks or count or len(points) or found.details.zeroPoints >= 0))
            )
            if odd:
                yield f"tensor '{tensor.name.decode()[:60]}' has scales that its type or place leaves unread"


def _tensor_names(model: Any) -> Counter[str]:
    return Counter(tensor.name.decode() for graph in model.subgraphs for tensor in graph.tensors)


def _versions(model: Any) -> dict[str, int]:
    names = flatbuffer.operator_names()
    codes = ((max(code.builtinCode, code.deprecatedBuiltinCode), code.version) for code in model.operatorCodes)
    return {names.get(code, str(code)): int(version) for code, version in codes}


def _declared(model: Any) -> dict[str, str]:
    found = {"version": str(model.version), "description": repr((model.description or b"")[:60])}
    for graph in model.subgraphs:
        places = [_place(graph.tensors[index]) for index in (*graph.inputs, *graph.outputs)]
        found[f"subgraph '{graph.name.decode()}'"] = str(places)
    return found


def _place(tensor: Any) -> str:
    """Describe what a caller passes or gets; integers with a scale, which the grids are checked for, as floats."""
    dtype, grid = flatbuffer.tensor_types()[tensor.type], tensor.quantization
    stands_for = "FLOAT32" if dtype in GRIDS and grid is not None and grid.scale is not None else dtype
    return f"{tensor.name.decode()} {stands_for} {list(storage.shape_of(tensor))}"


def _order(model: Any, position: int) -> tuple[str, Names]:
    """Return the signature of a subgraph, and its names of the inputs and outputs in the subgraph's order."""
    graph = model.subgraphs[position]
    signature = next((item for item in model.signatureDefs if item.subgraphIndex == position), None)
    if signature is None:
        return "", ([], [])
    roles = (signature.inputs, graph.inputs), (signature.outputs, graph.outputs)
    named = [({int(item.tensorIndex): item.name.decode() for item in items}, order) for items, order in roles]
    first, second = ([names.get(int(index), "") for index in order] for names, order in named)
    whole = all(len(items) == len(order) for items, order in roles)
    return signature.signatureKey.decode(), ((first, second) if whole else ([], []))
