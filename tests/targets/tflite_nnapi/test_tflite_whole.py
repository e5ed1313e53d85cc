"""Nothing in a file goes unread."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest

from stages.core.errors import ArtifactError
from stages.injecting.tflite_nnapi import TAMPERING
from stages.measure.structure import compare
from stages.targets import conversion
from stages.targets.tflite_nnapi import flatbuffer
from stages.targets.tflite_nnapi.lookup import looked_up
from stages.targets.tflite_nnapi.structure import read
from stages.targets.tflite_nnapi.whole import strays

pytestmark = pytest.mark.target


def _swap(graph, place):
    setattr(graph, place, np.asarray(getattr(graph, place))[::-1].copy())


def _rename_signature_input(model):
    first, second = model.signatureDefs[1].inputs
    first.name, second.name = second.name, first.name


def _set(item, **fields):
    for name, value in fields.items():
        assert hasattr(item, name)
        setattr(item, name, value)


def _add_operator(model):
    graph = model.subgraphs[0]
    last = next(op for op in reversed(graph.operators) if len(op.inputs) == 3)
    again, result = copy.copy(last), copy.copy(graph.tensors[last.outputs[0]])
    result.name = b"more"
    graph.tensors.append(result)
    again.outputs = np.array([len(graph.tensors) - 1], np.int32)
    graph.operators.append(again)


HIDDEN = {
    "inputs in another order": (lambda model: _swap(model.subgraphs[0], "inputs"), "in another order than ours"),
    "inputs under each other's name": (_rename_signature_input, "in another order than ours"),
    "a tensor of another name": (lambda m: _set(m.subgraphs[0].tensors[0], name=b"ids"), "the converted model's"),
    "an input of another shape": (
        lambda model: _set(model.subgraphs[0].tensors[0], shape=np.array([1, 9], np.int32)),
        r"INT32 .1, 9.",
    ),
    "description": (lambda model: _set(model, description=b"more"), "description is b'more'"),
    "version of the schema": (lambda model: _set(model, version=4), "version is 4"),
    "version of an operator": (lambda model: _set(model.operatorCodes[0], version=9), "is of version 9, expected"),
    "custom options": (lambda model: _set(model.subgraphs[0].operators[0], customOptions=[1, 2]), "customOptions is"),
    "ranges": (lambda model: _set(_scaled(model).quantization, min=[0.0]), "min is set"),
    "a second zero point": (
        lambda model: _set(_scaled(model).quantization, zeroPoint=np.array([0, 7])),
        "has scales that its type or place",
    ),
    "a scale of floats": (lambda model: _set(_floats(model).quantization, scale=[2.0]), "has scales that its type or"),
    "metadata": (lambda model: TAMPERING["text"](model), "metadata is set"),
    "an unread buffer": (lambda model: flatbuffer.add_buffer(model, np.ones(9, np.uint8)), "of 9 bytes is not read"),
    "an unread tensor": (lambda model: TAMPERING["unread_weight"](model), "tensor 'leftover' .* is not read"),
    "an unread operator": (_add_operator, "'more' is computed and not read"),
    "an unused operator code": (
        lambda model: model.operatorCodes.append(copy.copy(model.operatorCodes[0])),
        "operator code .* is not used",
    ),
    "a second signature": (lambda model: TAMPERING["second_entry"](model), "its signatures"),
    "a second subgraph": (lambda model: model.subgraphs.append(copy.copy(model.subgraphs[0])), "its signatures"),
    "a variable": (lambda model: _set(model.subgraphs[0].tensors[3], isVariable=True), "isVariable is set"),
}


def _scaled(model):
    tensors = model.subgraphs[0].tensors
    return next(item for item in tensors if item.quantization is not None and item.quantization.scale is not None)


def _floats(model):
    types = flatbuffer.tensor_types()
    floats = (item for item in model.subgraphs[0].tensors if types[item.type] == "FLOAT32")
    return next(item for item in floats if item.quantization is not None)


@pytest.mark.parametrize("kind", HIDDEN)
def test_nothing_hides_beside_the_computation(kind, converted, artifacts, tmp_path):
    damage, line = HIDDEN[kind]
    model = flatbuffer.read(artifacts["dynamic-tensor"] / flatbuffer.MODEL)
    damage(model)
    flatbuffer.write(model, tmp_path / flatbuffer.MODEL)
    assert re.search(line, "\n".join(strays(converted["bert"], tmp_path)))


def test_bytes_behind_the_tables_are_seen(converted, artifacts, tmp_path):
    content = (artifacts["float"] / flatbuffer.MODEL).read_bytes()
    (tmp_path / flatbuffer.MODEL).write_bytes(content + b"more")
    (line,) = strays(converted["bert"], tmp_path)
    assert line == f"of {len(content) + 4} bytes not all belong to a table of the format"


@pytest.mark.parametrize(("operator", "fixed"), [("TANH", True), ("FULLY_CONNECTED", False)])
def test_a_fixed_grid_is_the_one_that_its_function_has(operator, fixed, converted, artifacts, tmp_path):
    """What LiteRT fixes may be used in part; any other grid there is measured like everyone's."""
    model = flatbuffer.read(artifacts["static"] / flatbuffer.MODEL)
    found = compare(read(converted["bert"]), read(artifacts["static"])).grids
    graph = model.subgraphs[0]
    made = next(op for name, op in flatbuffer.operators_of(model, graph) if name == operator)
    tensor = graph.tensors[made.outputs[0]]
    assert {grid.borrowed for grid in found[tensor.name.decode()]} == {fixed}
    tensor.quantization.scale = tensor.quantization.scale * 4
    flatbuffer.write(model, tmp_path / flatbuffer.MODEL)
    wide = compare(read(converted["bert"]), read(tmp_path))
    # What reads it may contradict it, below which nothing is compared.
    assert wide.differences or {grid.borrowed for grid in wide.grids[tensor.name.decode()]} == {False}


@pytest.mark.parametrize("operator", ["RESHAPE", "TRANSPOSE"])
def test_what_moves_numbers_keeps_their_grid_zero_point_included(operator, converted, artifacts, tmp_path):
    model = flatbuffer.read(artifacts["static"] / flatbuffer.MODEL)
    graph = model.subgraphs[0]
    moved = (op for name, op in flatbuffer.operators_of(model, graph) if name == operator)
    tensor = next(
        graph.tensors[op.outputs[0]] for op in moved if graph.tensors[op.outputs[0]].quantization.scale is not None
    )
    tensor.quantization.zeroPoint = tensor.quantization.zeroPoint + 5
    flatbuffer.write(model, tmp_path / flatbuffer.MODEL)
    found = compare(read(converted["bert"]), read(tmp_path)).differences
    assert any("has grid = not that of its input" in line for line in found)


def test_weights_with_a_zero_point_that_kernels_ignore_are_a_difference(converted, artifacts, tmp_path):
    """Levels and zero point moved together read as the same numbers, and LiteRT computes with others."""
    model = flatbuffer.read(artifacts["dynamic-tensor"] / flatbuffer.MODEL)
    for graph in model.subgraphs:
        for name, operator in flatbuffer.operators_of(model, graph):
            if name == "FULLY_CONNECTED":
                tensor = graph.tensors[operator.inputs[1]]
                tensor.quantization.zeroPoint = np.array([1])
    flatbuffer.write(model, tmp_path / flatbuffer.MODEL)
    found = compare(read(converted["bert"]), read(tmp_path)).differences
    assert any("zero point = not 0 in a weight" in line for line in found)


@pytest.mark.parametrize("family", ["albert", "bert", "distilbert", "mobilebert"])
def test_a_conversion_looks_up_the_checkpoints_vector_for_every_id(family, checkpoints, converted):
    from safetensors.numpy import load_file

    tensors = load_file(checkpoints[family] / "model.safetensors")
    ids = np.arange(len(tensors[conversion.words_of(tensors)]), dtype=np.int32)
    assert conversion.vocabulary_error(tensors, looked_up(converted[family], ids)) == 0


def test_ids_that_something_else_reads_too_are_refused(converted, tmp_path):
    model = flatbuffer.read(converted["bert"] / flatbuffer.MODEL)
    graph = model.subgraphs[1]
    cast = next(op for name, op in flatbuffer.operators_of(model, graph) if name == "CAST")
    cast.inputs = np.array([graph.inputs[0]], np.int32)
    flatbuffer.write(model, tmp_path / flatbuffer.MODEL)
    with pytest.raises(ArtifactError, match="ids are read by CAST, EMBEDDING_LOOKUP; expected one"):
        looked_up(tmp_path, np.arange(49, dtype=np.int32))
