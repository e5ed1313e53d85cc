"""The weights of ONNX artifacts, read back at every precision and held against the checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.core.errors import ArtifactError
from stages.measure.matching import match
from stages.schema.variant import Precision
from stages.targets import own_grid
from stages.targets.onnx_cpu import graph
from stages.targets.onnx_cpu.weights import weights
from tests.targets.faults_onnx import zero_onnx_layer
from tests.targets.onnx_models import FAMILIES, SMALLER, TASK, lowered

pytestmark = pytest.mark.target


def cosines(checkpoint: Path, directory: Path) -> dict[str, float]:
    from safetensors.numpy import load_file

    found = match(load_file(checkpoint / "model.safetensors"), weights(directory), positions=TASK.max_length)
    return {name: one.cosine for name, one in found.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_matrix_of_a_checkpoint_is_found(
    family: str, checkpoints: dict[str, Path], converted: dict[str, Path]
) -> None:
    assert min(cosines(checkpoints[family], converted[family]).values()) > 0.9999


def test_a_matrix_is_as_large_as_it_is_and_not_as_its_bytes(
    checkpoints: dict[str, Path], converted: dict[str, Path], tmp_path: Path
) -> None:
    # 1,024 elements, the least that are compared, in 512 bytes.
    out, _ = lowered(converted["mobilebert"], SMALLER["weight-only-4-block"], tmp_path)
    assert min(weight.size for weight in weights(out).values()) == 1024
    assert min(cosines(checkpoints["mobilebert"], out).values()) > 0.98


@pytest.mark.parametrize("name", ["fp32", *SMALLER])
def test_the_comparison_sees_a_zeroed_layer_at_every_precision(
    name: str, checkpoints: dict[str, Path], converted: dict[str, Path], artifacts: dict[str, Path], tmp_path: Path
) -> None:
    source = {"fp32": converted["bert"], **artifacts}[name]
    sound = 0.98 if "4-block" in name else 0.995
    assert min(cosines(checkpoints["bert"], source).values()) > sound
    (tmp_path / graph.MODEL).write_bytes((source / graph.MODEL).read_bytes())
    zero_onnx_layer(tmp_path)
    broken = sorted(cosines(checkpoints["bert"], tmp_path).values())
    assert broken[0] < 0.1
    assert broken[1] > sound


def off(checkpoint: Path, directory: Path, precision: Precision) -> float:
    from safetensors.numpy import load_file

    tensors, expected = (
        load_file(checkpoint / "model.safetensors"),
        own_grid.expected("onnx-cpu", precision.model_dump()),
    )
    found = match(tensors, weights(directory), positions=TASK.max_length, expected=expected)
    return max(one.excess for one in found.values())


@pytest.mark.parametrize("name", [name for name, precision in SMALLER.items() if precision.kind != "float"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_is_off_by_what_its_own_grid_explains_and_a_zeroed_one_by_more(
    family: str, name: str, checkpoints: dict[str, Path], converted: dict[str, Path], tmp_path: Path
) -> None:
    out, _ = lowered(converted[family], SMALLER[name], tmp_path)
    assert off(checkpoints[family], out, SMALLER[name]) < 1.05  # conf/gate asks for 1.1
    if family == "bert":
        zero_onnx_layer(out)
        assert off(checkpoints[family], out, SMALLER[name]) > 2


def test_a_transposed_square_weight_is_seen(
    checkpoints: dict[str, Path], converted: dict[str, Path], tmp_path: Path
) -> None:
    from onnx import numpy_helper

    model = graph.load(converted["bert"] / graph.MODEL)
    square = next(item for item in model.graph.initializer if len(item.dims) == 2 and item.dims[0] == item.dims[1])
    turned = np.ascontiguousarray(numpy_helper.to_array(square).T)
    square.CopyFrom(numpy_helper.from_array(turned, square.name))
    graph.write(model, tmp_path / graph.MODEL)
    assert min(cosines(checkpoints["bert"], tmp_path).values()) < 0.1


def test_a_weight_without_its_scale_or_with_another_ones_is_seen(
    checkpoints: dict[str, Path], artifacts: dict[str, Path], tmp_path: Path
) -> None:
    from onnx import numpy_helper

    model = graph.load(artifacts["dynamic-channel"] / graph.MODEL)
    for item in model.graph.initializer:
        if item.name.endswith("_scale"):
            value = numpy_helper.to_array(item)
            moved = np.roll(np.arange(value.size), 1).reshape(value.shape).astype(np.float32)
            item.CopyFrom(numpy_helper.from_array(moved, item.name))
    (tmp_path / graph.MODEL).write_bytes(model.SerializeToString())
    assert min(cosines(checkpoints["bert"], tmp_path).values()) < 0.95
    graph.replace_initializers(model.graph, [i for i in model.graph.initializer if not i.name.endswith("_scale")])
    (tmp_path / graph.MODEL).write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match="integer weight '.*' has no scale"):
        weights(tmp_path)
