"""A healthy artifact is its conversion with rounded weights, and a conversion holds the checkpoint's own weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.measure.audit import match
from stages.measure.structure import compare
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
