"""What scales and shifts a linear layer's result moves into its matrix and bias, and nothing else does."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.measure.matching import match
from stages.targets.onnx_cpu import FUSED, affine, graph
from stages.targets.onnx_cpu.convert import convert
from stages.targets.onnx_cpu.weights import weights
from tests.targets.onnx_models import MASK_CONSTANT, TARGET, TASK, make_checkpoint, run_all, utterances
from tests.toys.classifiers import compressed


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MobileBERT whose gains and shifts are no ones and zeros."""
    import torch

    from stages.models.checkpoint import load_model

    directory = make_checkpoint("mobilebert", tmp_path_factory.mktemp("mobilebert"))
    model = load_model(directory)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, 1.0 if name.endswith("LayerNorm.weight") else 0.0, 0.5)
    return compressed(model, directory, MASK_CONSTANT)


@pytest.mark.target
def test_every_normalisation_of_mobilebert_is_folded_and_no_logit_moves(checkpoint: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.numpy import load_file

    from stages.models.checkpoint import load_model

    convert(checkpoint, TASK, TARGET, tmp_path)
    inputs = utterances(8, seed=3)
    rows = [ids[:length] for ids, length in zip(inputs["input_ids"], inputs["attention_mask"].sum(axis=1), strict=True)]
    model = load_model(checkpoint)
    with torch.no_grad():
        expected = np.concatenate([model(input_ids=torch.tensor(row[None])).logits for row in rows])
    assert np.abs(run_all(tmp_path, inputs) - expected).max() < 2e-6 * np.ptp(expected)
    operators = Counter(node.op_type for node in graph.load(tmp_path / graph.MODEL).graph.node)
    # A layer has two bottlenecks, the attention, two FFNs and the way back; the embeddings have one.
    assert json.loads((tmp_path / FUSED).read_text(encoding="utf-8"))["affine"] == 2 * 6 + 1
    assert operators["Mul"] == 2 * 4 + 1  # what is added to a layer's result is still scaled, nothing else
    errors = match(load_file(checkpoint / "model.safetensors"), weights(tmp_path), positions=TASK.max_length)
    assert max(found.error for found in errors.values()) == 0


@pytest.mark.target
def test_biases_that_layers_share_are_folded_for_each(converted: dict[str, Path]) -> None:
    # As transformers initialises them: zeros, which torch stores once.
    assert json.loads((converted["mobilebert"] / FUSED).read_text(encoding="utf-8"))["affine"] == 2 * 6 + 1


WIDTH = 4


def small(shared: bool = False, twice: bool = False) -> Any:
    """`(x @ matrix + bias) * gain + shift`; another reader of the matrix, or of what is scaled, on request."""
    import onnx_ir as ir
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    constants = {name: random.normal(size=(WIDTH,)).astype(np.float32) for name in ("bias", "gain", "shift")}
    constants["matrix"] = random.normal(size=(WIDTH, WIDTH)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "matrix"], ["product"]),
        helper.make_node("Add", ["bias", "product"], ["biased"]),
        helper.make_node("Mul", ["biased", "gain"], ["scaled"]),
        helper.make_node("Add", ["shift", "scaled"], ["shifted"]),
        helper.make_node("Tanh", ["shifted"], ["y"]),
    ]
    if shared:
        nodes.append(helper.make_node("MatMul", ["x", "matrix"], ["other"]))
    if twice:
        nodes.append(helper.make_node("Neg", ["biased"], ["other"]))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", WIDTH]) for name in ("x", "y", "other")]
    outputs = values[1:] if shared or twice else values[1:2]
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    return ir.from_proto(helper.make_model(helper.make_graph(nodes, "small", values[:1], outputs, stored)))


def answers(model: Any) -> list[Any]:
    import onnx_ir as ir
    import onnxruntime

    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    found: list[Any] = session.run(None, {"x": np.arange(12, dtype=np.float32).reshape(3, WIDTH)})
    return found


def test_operands_may_stand_in_any_order() -> None:
    model, expected = small(), answers(small())
    assert affine.fold(model.graph) == 1
    np.testing.assert_allclose(answers(model)[0], expected[0], rtol=1e-5)


@pytest.mark.parametrize("reader", ["shared", "twice"])
def test_what_something_else_reads_is_left_alone(reader: str) -> None:
    model, expected = small(**{reader: True}), answers(small(**{reader: True}))
    assert affine.fold(model.graph) == 0
    assert all((found == wanted).all() for found, wanted in zip(answers(model), expected, strict=True))
