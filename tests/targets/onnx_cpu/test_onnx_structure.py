"""A healthy artifact is its conversion with rounded weights, and a conversion holds the checkpoint's own weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from stages.measure.audit import match
from stages.measure.structure import compare
from stages.targets.onnx_cpu import graph
from stages.targets.onnx_cpu.structure import read
from stages.targets.onnx_cpu.weights import weights
from tests.targets.onnx_models import FAMILIES, INTEGER, TASK, lowered

pytestmark = pytest.mark.target


@pytest.mark.parametrize("family", FAMILIES)
def test_a_conversion_holds_the_weights_of_the_checkpoint(
    family: str, checkpoints: dict[str, Path], converted: dict[str, Path]
) -> None:
    from safetensors.numpy import load_file

    tensors = load_file(checkpoints[family] / "model.safetensors")
    found = match(tensors, weights(converted[family]), positions=TASK.max_length)
    assert max(one.error for one in found.values()) == 0


@pytest.mark.parametrize("name", INTEGER)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_precision_is_its_conversion_rounded(
    family: str, name: str, converted: dict[str, Path], artifacts: dict[str, Path], tmp_path: Path
) -> None:
    made = artifacts[name] if family == "bert" else lowered(converted[family], INTEGER[name], tmp_path / name)[0]
    found = compare(read(converted[family]), read(made))
    assert (found.differences, found.beyond) == ([], 0)
    assert len(found.weights) > 10


def test_another_models_artifact_is_not(converted: dict[str, Path], artifacts: dict[str, Path]) -> None:
    assert compare(read(converted["distilbert"]), read(artifacts["dynamic-channel"])).differences


def _disagreeing_grid(model: Any) -> None:
    node = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    zero = next(item for item in model.graph.initializer if item.name == node.input[2])
    moved = numpy_helper.from_array(numpy_helper.to_array(zero) // 2, "moved")
    model.graph.initializer.append(moved)
    node.input[2] = "moved"


def _hidden_factor(model: Any) -> None:
    node = next(node for node in model.graph.node if node.op_type == "DynamicQuantizeLinear")
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1.2), "factor"))
    position = list(model.graph.node).index(node) + 1
    model.graph.node.insert(position, helper.make_node("Mul", [node.output[1], "factor"], ["scaled"]))
    for other in model.graph.node:
        if other.op_type == "Mul" and node.output[1] in other.input and "factor" not in other.input:
            other.input[list(other.input).index(node.output[1])] = "scaled"


def _wide_inputs(model: Any) -> None:
    for item in model.graph.input:
        item.type.tensor_type.elem_type = TensorProto.INT64


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("static-channel", _disagreeing_grid),
        ("dynamic-channel", _hidden_factor),
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
