"""A healthy artifact is its conversion with rounded weights, and a conversion holds the checkpoint's own weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from stages.measure.matching import match
from stages.measure.structure import compare
from stages.targets.onnx_cpu import graph
from stages.targets.onnx_cpu.structure import read
from stages.targets.onnx_cpu.weights import weights
from stages.targets.onnx_cpu.whole import strays
from tests.targets.onnx_models import FAMILIES, SMALLER, TASK, lowered

pytestmark = pytest.mark.target


@pytest.mark.parametrize("family", FAMILIES)
def test_a_conversion_holds_the_weights_of_the_checkpoint(
    family: str, checkpoints: dict[str, Path], converted: dict[str, Path]
) -> None:
    from safetensors.numpy import load_file

    tensors = load_file(checkpoints[family] / "model.safetensors")
    found = match(tensors, weights(converted[family]), positions=TASK.max_length)
    assert max(one.error for one in found.values()) == 0


@pytest.mark.parametrize("name", SMALLER)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_precision_is_its_conversion_rounded(
    family: str, name: str, converted: dict[str, Path], artifacts: dict[str, Path], tmp_path: Path
) -> None:
    made = artifacts[name] if family == "bert" else lowered(converted[family], SMALLER[name], tmp_path / name)[0]
    found = compare(read(converted[family]), read(made))
    assert (found.differences, found.beyond) == ([], 0)
    assert len(found.weights) > 10
    assert strays(converted[family], made) == []


def test_another_models_artifact_is_not(converted: dict[str, Path], artifacts: dict[str, Path]) -> None:
    assert compare(read(converted["distilbert"]), read(artifacts["dynamic-channel"])).differences


def _disagreeing_grid(model: Any) -> None:
    node = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    zero = next(item for item in model.graph.initializer if item.name == node.input[2])
    moved = numpy_helper.from_array(numpy_helper.to_array(zero) // 2, "moved")
    model.graph.initializer.append(moved)
    node.input[2] = "moved"


def _hidden_factor(model: Any) -> None:
    node = next(node for node in model.graph.node if node.op_type == "DynamicQuantizeMatMul")
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1.2), "factor"))
    position = list(model.graph.node).index(node)
    model.graph.node.insert(position, helper.make_node("Mul", [node.input[0], "factor"], ["scaled"]))
    model.graph.node[position + 1].input[0] = "scaled"


def _unmasked_attention(model: Any) -> None:
    node = next(node for node in model.graph.node if node.op_type == "MultiHeadAttention")
    node.input[4] = ""


def _fewer_heads(model: Any) -> None:
    node = next(node for node in model.graph.node if node.op_type == "MultiHeadAttention")
    next(item for item in node.attribute if item.name == "num_heads").i = 2


def _wide_inputs(model: Any) -> None:
    for item in model.graph.input:
        item.type.tensor_type.elem_type = TensorProto.INT64


def _another_cast(model: Any) -> None:
    next(node for node in model.graph.node if node.op_type == "Cast").attribute[0].i = TensorProto.DOUBLE


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("static-channel", _disagreeing_grid),
        ("dynamic-channel", _hidden_factor),
        ("fp16", _another_cast),
        ("weight-only-8-channel", _another_cast),
        ("dynamic-channel", _unmasked_attention),
        ("dynamic-channel", _fewer_heads),
        ("dynamic-channel", _wide_inputs),
        ("static-channel", _wide_inputs),
    ],
)
def test_what_is_folded_away_hides_nothing(
    name: str,
    damage: Callable[[Any], None],
    converted: dict[str, Path],
    artifacts: dict[str, Path],
    tmp_path: Path,
) -> None:
    model = graph.load(artifacts[name] / graph.MODEL)
    damage(model)
    (tmp_path / graph.MODEL).write_bytes(model.SerializeToString())
    assert compare(read(converted["bert"]), read(tmp_path)).differences


def test_a_block_with_another_scale_is_beyond_rounding(
    converted: dict[str, Path], artifacts: dict[str, Path], tmp_path: Path
) -> None:
    model = graph.load(artifacts["weight-only-4-block"] / graph.MODEL)
    scale = next(item for item in model.graph.initializer if item.name.endswith("_scale_stored") and item.dims[-1] == 2)
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float16(1.5), scale.name))
    (tmp_path / graph.MODEL).write_bytes(model.SerializeToString())
    assert compare(read(converted["bert"]), read(tmp_path)).beyond > 100
