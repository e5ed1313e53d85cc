"""Two artifacts are timed in turns, each in a process of its own, and one that cannot be timed is named."""

import shutil

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from stages.core.errors import ArtifactError
from stages.running import local
from stages.running.timing import TURNS, time_in_turns
from stages.schema.gate import Benchmark
from tests.targets.running import sign

pytestmark = pytest.mark.target
SETTINGS = Benchmark(threads=1, warmup=1, repetitions=10, utterances=2, confidence=0.95)


@pytest.fixture
def artifact(tmp_path):
    """A model that answers with the mean of its tokens' rows."""
    directory = tmp_path / "sound"
    directory.mkdir()
    shapes = {"input_ids": TensorProto.INT32, "attention_mask": TensorProto.INT32}
    inputs = [helper.make_tensor_value_info(name, kind, [1, "n"]) for name, kind in shapes.items()]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("ReduceMean", ["rows"], ["logits"], axes=[1], keepdims=0),
    ]
    table = numpy_helper.from_array(np.eye(4, 3, dtype=np.float32), "table")
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [table])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (directory / "model.onnx").write_bytes(model.SerializeToString())
    sign(directory, 4, dynamic=True)
    return directory


@pytest.fixture
def probe(tmp_path):
    ones = np.ones((2, 4), np.int32)
    np.savez(tmp_path / "probe.npz", input_ids=ones, attention_mask=ones)
    return tmp_path


def test_every_turn_gives_one_ratio_measured_anew(artifact, probe, tmp_path):
    shutil.copytree(artifact, tmp_path / "copy")
    ratios = time_in_turns(local, "onnx-cpu", artifact, tmp_path / "copy", probe, "true_length", SETTINGS)
    assert len(set(ratios)) == TURNS
    assert min(ratios) > 0


def test_what_cannot_be_timed_is_named(artifact, probe, tmp_path):
    with pytest.raises(ArtifactError, match="missing' cannot be run: error: "):
        time_in_turns(local, "onnx-cpu", artifact, tmp_path / "missing", probe, "true_length", SETTINGS)
