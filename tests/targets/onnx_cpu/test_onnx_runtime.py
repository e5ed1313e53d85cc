"""Running ONNX artifacts: what is refused, and that a broken layer shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.core.errors import ArtifactError, InputError
from stages.targets.base import SIGNATURE
from stages.targets.onnx_cpu import graph
from stages.targets.onnx_cpu.runtime import open_runtime
from stages.tasks.base import FORWARD
from tests.targets.faults_onnx import zero_onnx_layer
from tests.targets.onnx_models import (
    INTEGER,
    run_all,
    utterances,
)
from tests.toys.graphs import summing

pytestmark = pytest.mark.target


@pytest.mark.parametrize("name", ["fp32", *INTEGER])
def test_a_zeroed_layer_changes_the_answers(
    name: str, converted: dict[str, Path], artifacts: dict[str, Path], tmp_path: Path
) -> None:
    source = {"fp32": converted["bert"], **artifacts}[name]
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    inputs = utterances(8, seed=3)
    before = run_all(tmp_path, inputs)
    zero_onnx_layer(tmp_path)
    assert np.abs(run_all(tmp_path, inputs) - before).max() > 0.2 * np.ptp(before)


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "missing"])
def test_a_damaged_model_is_refused_in_one_line(damage: str, artifacts: dict[str, Path], tmp_path: Path) -> None:
    for file in artifacts["dynamic-channel"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / graph.MODEL
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[: len(whole) // 2], "text": b"not a model", "empty": b""}.get(damage, b""))
    if damage == "missing":
        path.unlink()
    with pytest.raises(ArtifactError, match="cannot open|has no model.onnx") as caught:
        open_runtime(tmp_path, threads=1)
    assert "\n" not in str(caught.value)


def test_runtime_refuses_what_the_signature_does_not_admit(converted: dict[str, Path]) -> None:
    runtime = open_runtime(converted["bert"], threads=1)
    ones = np.ones((1, 8), np.int32)
    long = np.ones((1, 33), np.int32)
    with pytest.raises(InputError, match="33 tokens do not fit; expected at most 32"):
        runtime.run(FORWARD, {"input_ids": long, "attention_mask": long})
    with pytest.raises(InputError, match=r"'attention_mask' is int64 \[1, 8\]; expected int32"):
        runtime.run(FORWARD, {"input_ids": ones, "attention_mask": ones.astype(np.int64)})
    with pytest.raises(InputError, match="expected exactly"):
        runtime.run(FORWARD, {"input_ids": ones})


def test_a_graph_of_int64_inputs_runs_alike(converted: dict[str, Path], tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    model = graph.load(converted["bert"] / graph.MODEL)
    for item in model.graph.input:
        item.type.tensor_type.elem_type = TensorProto.INT64
    # ONNX Runtime's attention takes a mask of int32 only; browsers and Node hand over int64.
    for node in model.graph.node:
        if node.op_type == "MultiHeadAttention":
            node.input[4] = "narrow_mask"
    model.graph.node.insert(0, helper.make_node("Cast", ["attention_mask"], ["narrow_mask"], to=TensorProto.INT32))
    graph.write(model, tmp_path / graph.MODEL)
    (tmp_path / SIGNATURE).write_bytes((converted["bert"] / SIGNATURE).read_bytes())
    inputs = utterances(2)
    np.testing.assert_array_equal(run_all(tmp_path, inputs), run_all(converted["bert"], inputs))


def test_a_model_that_opens_and_fails_when_it_runs_is_one_line(artifacts: dict[str, Path], tmp_path: Path) -> None:

    source = artifacts["dynamic-channel"]
    (tmp_path / SIGNATURE).write_bytes((source / SIGNATURE).read_bytes())
    (tmp_path / graph.MODEL).write_bytes(summing(2, 3))
    opened = open_runtime(tmp_path, threads=1)
    beyond = np.array([[1, 5]], np.int32)
    with pytest.raises(ArtifactError, match="onnxruntime cannot run 'model.onnx'.*out of data bounds") as caught:
        opened.run(FORWARD, {"input_ids": beyond, "attention_mask": np.ones_like(beyond)})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["fp32", "dynamic-channel", "fp16"])
def test_opening_a_model_brings_no_slow_operator_back_and_expands_weights_once(
    name: str, converted: dict[str, Path], artifacts: dict[str, Path], tmp_path: Path
) -> None:
    import onnxruntime

    source = {"fp32": converted["bert"], **artifacts}[name]
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / graph.MODEL)
    onnxruntime.InferenceSession(source / graph.MODEL, options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in graph.load(tmp_path / graph.MODEL).graph.node]
    assert "SkipLayerNormalization" not in operators
    assert operators.count("Sum") == operators.count("LayerNormalization") == 5
    # A table's rows are widened as they are looked up; positions and matrices never while the model runs.
    assert operators.count("Cast") == (0 if name == "fp32" else 1)
