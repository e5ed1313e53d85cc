"""Nothing in a package goes unread, and a damaged one is named."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.injecting.hidden import UNKNOWN_FIELD
from stages.targets import conversion
from stages.targets.coreml_metal import (
    package,
    structure,
)
from stages.targets.coreml_metal.lookup import looked_up
from stages.targets.coreml_metal.package import PACKAGE, PROGRAM, WEIGHTS, constants
from stages.targets.coreml_metal.weights import weights
from stages.targets.coreml_metal.whole import strays


def _block(model):
    function = model.mlProgram.functions["main"]
    return function.block_specializations[function.opset]


def _repeat_operation(model):
    added = _block(model).operations.add()
    added.CopyFrom(_block(model).operations[-2])
    added.outputs[0].name = "more"


def _name_operation(model):
    _block(model).operations[0].attributes["name"].immediateValue.tensor.strings.values[0] = "ask for more"


HIDDEN = {
    "inputs in another order": (
        lambda model: model.description.input.reverse(),
        "its description maps .* in this order",
    ),
    "arguments in another order": (
        lambda model: model.mlProgram.functions["main"].inputs.reverse(),
        "its program maps .* in this order",
    ),
    "an input of another type": (
        lambda model: setattr(model.description.input[0].type.multiArrayType, "dataType", 65568),
        "inputs is .*FLOAT32.* the converted model's",
    ),
    "an output of another type": (
        lambda model: setattr(model.description.output[0].type.multiArrayType, "dataType", 65552),
        "outputs is .*FLOAT16.* the converted model's",
    ),
    "other shapes": (
        lambda model: model.description.input[0].type.multiArrayType.enumeratedShapes.shapes.add(shape=[1, 99]),
        "inputs is .*99.* the converted model's",
    ),
    "a description": (
        lambda model: setattr(model.description.input[0], "shortDescription", "more"),
        "shortDescription",
    ),
    "an optional input": (lambda model: setattr(model.description.input[0].type, "isOptional", True), "isOptional is"),
    "metadata": (lambda model: model.description.metadata.userDefined.update(a="more"), "metadata.userDefined is set"),
    "an author": (lambda model: setattr(model.description.metadata, "author", "more"), "metadata.author is set"),
    "training": (lambda model: setattr(model, "isUpdatable", True), "isUpdatable is set"),
    "specification": (lambda model: setattr(model, "specificationVersion", 8), "specification version is 8"),
    "a comment": (lambda model: setattr(model.mlProgram, "docString", "more"), "docString is set"),
    "a second function": (
        lambda model: model.mlProgram.functions["more"].CopyFrom(model.mlProgram.functions["main"]),
        r"it has the functions .'main', 'more'.",
    ),
    "a second block": (
        lambda model: model.mlProgram.functions["main"].block_specializations["CoreML5"].CopyFrom(_block(model)),
        "in one form",
    ),
    "another default": (lambda model: setattr(model.description, "defaultFunctionName", "main"), "defaultFunctionName"),
    "an unread operation": (_repeat_operation, "'more' .* is computed and not read"),
    "a name": (_name_operation, "is called 'ask for more', expected an identifier"),
}


@pytest.mark.target
@pytest.mark.parametrize("kind", HIDDEN)
def test_nothing_hides_beside_the_computation(builds, kind, tmp_path):
    damage, line = HIDDEN[kind]
    shutil.copytree(builds.artifact / "wi8", tmp_path / "wi8")
    model = package.read_program(tmp_path / "wi8" / PACKAGE)
    damage(model)
    (tmp_path / "wi8" / PACKAGE / PROGRAM).write_bytes(model.SerializeToString(deterministic=True))
    assert re.search(line, "\n".join(strays(builds.converted, tmp_path / "wi8")))


def _write_more(path):
    path.write_text("more", encoding="utf-8")


def _append(path, more):
    path.write_bytes(path.read_bytes() + more)


def _list_more(path):
    tree = json.loads(path.read_text(encoding="utf-8"))
    tree["itemInfoEntries"]["more"] = {"path": "more"}
    artifact.write_json(path, tree)


def _use_reserved(path):
    content = bytearray(path.read_bytes())
    content[40:44] = b"more"
    path.write_bytes(content)


@pytest.mark.target
@pytest.mark.parametrize(
    ("place", "damage", "line"),
    [
        ("more.txt", _write_more, "file 'more.txt' is no part of it"),
        ("Data/com.apple.CoreML/weights/more.bin", _write_more, "file '.*more.bin' is no part of it"),
        ("Data/more", lambda path: path.mkdir(), "file 'Data/more' is no part of it"),
        ("Manifest.json", _list_more, "is not that of one program and its weights"),
        ("Manifest.json", lambda path: _append(path, b" "), "is not that of one program and its weights"),
        (str(WEIGHTS), lambda path: _append(path, b"more"), "bytes in weight.bin not all belong to a blob"),
        (str(WEIGHTS), lambda path: _append(path, bytes(64)), "bytes in weight.bin not all belong to a blob"),
        (str(WEIGHTS), _use_reserved, "bytes in weight.bin not all belong to a blob"),
        (str(PROGRAM), lambda path: _append(path, UNKNOWN_FIELD), "not all belong to a field that the format has"),
    ],
)
def test_a_package_holds_one_program_its_weights_and_nothing_else(builds, place, damage, line, tmp_path):
    shutil.copytree(builds.artifact / "pal4", tmp_path / "pal4")
    damage(tmp_path / "pal4" / PACKAGE / place)
    assert re.search(line, "\n".join(strays(builds.converted, tmp_path / "pal4")))


@pytest.mark.target
def test_a_blob_that_nothing_reads_is_seen(builds, tmp_path):
    shutil.copytree(builds.artifact / "fp16", tmp_path / "fp16")
    model = package.read_program(tmp_path / "fp16" / PACKAGE)
    blob = next(one for one in _block(model).operations if list(package.blob_offsets(one)))
    blob.attributes["val"].ClearField("blobFileValue")
    (tmp_path / "fp16" / PACKAGE / PROGRAM).write_bytes(model.SerializeToString(deterministic=True))
    assert any(
        re.search(r"1 of \d+ blobs in weight.bin are not read", x) for x in strays(builds.converted, tmp_path / "fp16")
    )


@pytest.mark.target
def test_a_conversion_looks_up_the_checkpoints_vector_for_every_id(builds):
    ids = np.arange(len(builds.tensors[conversion.words_of(builds.tensors)]), dtype=np.int32)
    assert conversion.vocabulary_error(builds.tensors, looked_up(builds.converted, ids)) == 0


@pytest.mark.target
def test_ids_that_something_else_reads_too_are_refused(builds, tmp_path):
    shutil.copytree(builds.converted, tmp_path / "converted")
    model = package.read_program(tmp_path / "converted" / PACKAGE)
    cast = next(one for one in _block(model).operations if one.type == "cast")
    cast.inputs["x"].arguments[0].name = "input_ids"
    (tmp_path / "converted" / PACKAGE / PROGRAM).write_bytes(model.SerializeToString(deterministic=True))
    with pytest.raises(ArtifactError, match="'input_ids' of .* is read by .*cast.*; expected one gather"):
        looked_up(tmp_path / "converted", np.arange(49, dtype=np.int32))


@pytest.mark.target
def test_a_mask_that_keeps_nothing_is_beyond_rounding(builds):
    value = np.zeros((8, 8), np.float16)
    bound = structure._sparse(np.zeros((8, 8), bool), value)(np.ones((8, 8), np.float32))
    assert not bound.any()


@pytest.mark.target
def test_weights_of_a_missing_or_damaged_package_are_refused(builds, tmp_path):
    with pytest.raises(ArtifactError, match=r"has no model\.mlpackage"):
        weights(tmp_path)
    shutil.copytree(builds.converted / PACKAGE, tmp_path / PACKAGE)
    (tmp_path / PACKAGE / WEIGHTS).write_bytes(bytes(1000))
    with pytest.raises(ArtifactError, match=r"weight\.bin"):
        weights(tmp_path)


@pytest.mark.target
def test_a_damaged_package_is_named(builds, tmp_path):
    copy = tmp_path / PACKAGE
    shutil.copytree(builds.converted / PACKAGE, copy)
    (copy / WEIGHTS).write_bytes((copy / WEIGHTS).read_bytes()[:1000])
    with pytest.raises(ArtifactError, match=r"weight\.bin' is damaged: no blob at \d+"):
        constants(copy)
    (copy / PROGRAM).write_bytes(b"not a program")
    with pytest.raises(ArtifactError, match="cannot read .*model.mlpackage"):
        constants(copy)
