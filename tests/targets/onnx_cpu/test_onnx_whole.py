"""What an ONNX file holds beside the computation is a difference, whatever field or name it hides in."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from stages.core.errors import ArtifactError
from stages.injecting import onnx_hidden
from stages.injecting.hidden import UNKNOWN_FIELD
from stages.injecting.onnx_cpu import ArtifactEditor
from stages.measure.structure import compare
from stages.targets import answers, conversion
from stages.targets.onnx_cpu import graph
from stages.targets.onnx_cpu.lookup import looked_up
from stages.targets.onnx_cpu.runtime import open_runtime
from stages.targets.onnx_cpu.structure import read
from stages.targets.onnx_cpu.whole import strays
from stages.tasks.base import FORWARD
from stages.tasks.classify import exercise
from tests.targets.onnx_models import VOCABULARY, run_all, utterances

pytestmark = pytest.mark.target
Damage = Callable[[Any], Any]


def _unread_operator(model: Any) -> None:
    model.graph.node.append(helper.make_node("Relu", ["logits"], ["more"], name=f"Relu_{len(model.graph.node)}"))


def _second_value(model: Any) -> None:
    item = next(item for node in model.graph.node for item in node.attribute if item.name == "axis")
    item.s = b"more"


def _setting_given_twice(model: Any) -> None:
    node = next(node for node in model.graph.node if node.attribute)
    node.attribute.append(node.attribute[0])


def _renamed_value(model: Any) -> None:
    name = model.graph.node[0].output[0]
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["ask for more" if one == name else one for one in names]


def _stored_twice(model: Any) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def _inferred_shape(model: Any) -> None:
    name = model.graph.node[0].output[0]
    model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [7]))


def _sparse_weight(model: Any) -> None:
    values, indices = (numpy_helper.from_array(np.arange(1, 2, dtype=kind), "more") for kind in (np.float32, np.int64))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))


def _set_name(item: Any, name: str) -> None:
    item.name = name


HIDDEN: dict[str, tuple[Damage, str]] = {
    "comment": (lambda model: setattr(model, "doc_string", "more"), "doc_string is set"),
    "comment on a graph": (lambda model: setattr(model.graph, "doc_string", "more"), "graph.doc_string is set"),
    "comment on a node": (lambda model: setattr(model.graph.node[1], "doc_string", "more"), r"node\[1\].doc_string"),
    "comment on a weight": (lambda model: setattr(model.graph.initializer[0], "doc_string", "more"), "doc_string is"),
    "comment on an input": (lambda model: setattr(model.graph.input[0], "doc_string", "more"), "doc_string is set"),
    "metadata of a graph": (lambda model: model.graph.metadata_props.add(key="a", value="b"), "graph.metadata_props"),
    "metadata of a node": (lambda model: model.graph.node[0].metadata_props.add(key="a"), "metadata_props is set"),
    "producer's version": (lambda model: setattr(model, "producer_version", "more"), "producer_version is set"),
    "producer": (lambda model: setattr(model, "producer_name", "more"), "producer is 'more'"),
    "domain": (lambda model: setattr(model, "domain", "more"), "domain is set"),
    "graph's name": (lambda model: _set_name(model.graph, "more"), "graph is 'more'"),
    "node's name": (lambda model: _set_name(model.graph.node[0], "more"), "is called 'more'"),
    "value's name": (_renamed_value, "'ask for more' is no name"),
    "training": (lambda model: model.training_info.add(), "training_info is set"),
    "annotation": (lambda model: model.graph.quantization_annotation.add(tensor_name="a"), "quantization_annotation"),
    "inferred shape": (_inferred_shape, "value_info is set"),
    "sparse weight": (_sparse_weight, "sparse_initializer is set"),
    "unread operator": (_unread_operator, "'more' .Relu. is computed and not read"),
    "a weight twice": (_stored_twice, "is defined twice"),
    "a setting's second value": (_second_value, "has a value beside its axis"),
    "a setting twice": (_setting_given_twice, "has an attribute twice"),
    "unused library": (lambda model: model.opset_import.add(domain="more", version=1), "operators 'more'"),
    "a library twice": (lambda model: model.opset_import.add(domain="", version=19), "one domain twice"),
    "opset": (lambda model: setattr(model.opset_import[0], "version", 19), "opset is .19., the converted model's .20."),
    "library's version": (lambda model: setattr(model.opset_import[1], "version", 2), "imports version 2"),
    "IR version": (lambda model: setattr(model, "ir_version", 9), "IR version is 9, the converted model's 10"),
    "another axis": (
        lambda model: setattr(model.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 1),
        "inputs is .* the converted model's",
    ),
    "another type": (
        lambda model: setattr(model.graph.output[0].type.tensor_type, "elem_type", TensorProto.DOUBLE),
        "outputs is .* the converted model's",
    ),
    "another output": (
        lambda model: model.graph.output.append(helper.make_tensor_value_info("val", TensorProto.FLOAT, [1])),
        "it maps .* in this order",
    ),
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_nothing_hides_beside_the_computation(
    kind: str, converted: dict[str, Path], artifacts: dict[str, Path], tmp_path: Path
) -> None:
    damage, line = HIDDEN[kind]
    model = graph.load(artifacts["dynamic-channel"] / graph.MODEL)
    damage(model)
    (tmp_path / graph.MODEL).write_bytes(model.SerializeToString(deterministic=True))
    assert re.search(line, "\n".join(strays(converted["bert"], tmp_path)))


@pytest.mark.parametrize("more", [UNKNOWN_FIELD, b"\x08\x0a"])
def test_bytes_that_parsers_skip_are_seen(
    more: bytes, converted: dict[str, Path], artifacts: dict[str, Path], tmp_path: Path
) -> None:
    content = (artifacts["fp16"] / graph.MODEL).read_bytes()
    (tmp_path / graph.MODEL).write_bytes(content + more)
    (line,) = strays(converted["bert"], tmp_path)
    assert line == f"of {len(content) + len(more)} bytes not all belong to a field that the format has"


@pytest.mark.parametrize("kind", ["exchanged_inputs", "foreign_domain", "local_function", "second_entry", "text"])
def test_a_fault_of_the_kill_table_is_a_difference_that_answers_need_not_show(
    kind: str, converted: dict[str, Path], artifacts: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / graph.MODEL).write_bytes((artifacts["dynamic-channel"] / graph.MODEL).read_bytes())
    editor = ArtifactEditor(tmp_path)
    assert editor.tamper(kind)
    editor.save()
    assert compare(read(converted["bert"]), read(tmp_path)).differences + strays(converted["bert"], tmp_path)


def _lookup_of_fewer_words(model: Any) -> None:
    """A function named Gather that reads every id of the upper half as 1."""
    node = next(node for node in model.graph.node if "input_ids" in node.input)
    half, one = (helper.make_tensor(name, TensorProto.INT32, [], [value]) for name, value in (("h", 150), ("o", 1)))
    inside = [
        helper.make_node("Constant", [], ["half"], value=half),
        helper.make_node("Constant", [], ["one"], value=one),
        helper.make_node("Less", ["ids", "half"], ["small"]),
        helper.make_node("Where", ["small", "ids", "one"], ["found"]),
        helper.make_node("Gather", ["table", "found"], ["rows"]),
    ]
    version = next(item for item in model.opset_import if not item.domain)
    model.functions.append(helper.make_function("more", "Gather", ["table", "ids"], ["rows"], inside, [version]))
    model.opset_import.append(helper.make_opsetid("more", 1))
    node.domain = "more"
    del node.attribute[:]


def test_a_lookup_of_another_domain_is_no_lookup(converted: dict[str, Path], tmp_path: Path) -> None:
    model = graph.load(converted["bert"] / graph.MODEL)
    _lookup_of_fewer_words(model)
    (tmp_path / graph.MODEL).write_bytes(model.SerializeToString(deterministic=True))
    (tmp_path / "signature.json").write_bytes((converted["bert"] / "signature.json").read_bytes())
    few = {"input_ids": np.int32([[2, 7, 3]]), "attention_mask": np.int32([[1, 1, 1]])}
    np.testing.assert_allclose(run_all(tmp_path, few), run_all(converted["bert"], few), atol=1e-6)
    found = compare(read(converted["bert"]), read(tmp_path)).differences
    assert any("is more::Gather, expected Gather" in line for line in found)
    assert any("functions is set" in line for line in strays(converted["bert"], tmp_path))
    with pytest.raises(ArtifactError, match="is read by more::Gather; expected one Gather"):
        looked_up(tmp_path, np.arange(VOCABULARY, dtype=np.int32))


def test_weights_in_another_file_are_refused(artifacts: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / graph.MODEL).write_bytes((artifacts["fp16"] / graph.MODEL).read_bytes())
    editor = ArtifactEditor(tmp_path)
    assert editor.tamper("external_data")
    editor.save()
    assert (tmp_path / onnx_hidden.OUTSIDE).stat().st_size > 0
    with pytest.raises(ArtifactError, match="in another file; expected all weights in the model's"):
        read(tmp_path)


@pytest.mark.parametrize("setting", ["accuracy_level", "block_size"])
def test_the_settings_of_an_operator_that_stands_for_a_format_are_compared(
    setting: str, converted: dict[str, Path], artifacts: dict[str, Path], tmp_path: Path
) -> None:
    model = graph.load(artifacts["weight-only-4-block"] / graph.MODEL)
    node = next(node for node in model.graph.node if node.op_type == "MatMulNBits")
    next(item for item in node.attribute if item.name == setting).i = 4
    (tmp_path / graph.MODEL).write_bytes(model.SerializeToString(deterministic=True))
    assert compare(read(converted["bert"]), read(tmp_path)).differences


@pytest.mark.parametrize("family", ["albert", "bert", "distilbert", "mobilebert"])
def test_a_conversion_looks_up_the_checkpoints_vector_for_every_id(
    family: str, checkpoints: dict[str, Path], converted: dict[str, Path]
) -> None:
    from safetensors.numpy import load_file

    tensors = load_file(checkpoints[family] / "model.safetensors")
    rows = looked_up(converted[family], np.arange(VOCABULARY, dtype=np.int32))
    assert conversion.vocabulary_error(tensors, rows) == 0
    rows[VOCABULARY - 1, 0] += 1
    assert conversion.vocabulary_error(tensors, rows) > 0.1


def test_ids_that_something_else_reads_too_are_refused(converted: dict[str, Path], tmp_path: Path) -> None:
    model = graph.load(converted["bert"] / graph.MODEL)
    model.graph.node.append(helper.make_node("Cast", ["input_ids"], ["more"], to=TensorProto.FLOAT))
    (tmp_path / graph.MODEL).write_bytes(model.SerializeToString(deterministic=True))
    with pytest.raises(ArtifactError, match="is read by Gather, Cast; expected one Gather"):
        looked_up(tmp_path, np.arange(VOCABULARY, dtype=np.int32))


def test_a_batch_larger_than_any_traced_is_compared_with_the_reference(converted: dict[str, Path]) -> None:
    probe = utterances(64)
    probe["logits"] = run_all(converted["bert"], probe)
    runtime = open_runtime(converted["bert"], threads=1)
    assert answers.batch_error(exercise, runtime, probe, 0) < 1e-4

    class Limited:
        label, batches = "limited", True

        def run(self, call: str, inputs: Any) -> Any:
            logits = runtime.run(FORWARD, inputs)["logits"]
            logits[32:] = logits[:1]
            return {"logits": logits}

    assert answers.batch_error(exercise, Limited(), probe, 0) > 0.1
