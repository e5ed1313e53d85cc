"""The sums AVX2 clips: counted exactly, none in what Tinsmith writes, and what ONNX Runtime does on such a CPU."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from stages.targets.onnx_cpu import runtime, saturation

pytestmark = pytest.mark.target
K, N = 9, 4
QEMU = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")


def weights(kind):
    low, high = (-127, 128) if kind == np.int8 else (0, 256)
    return np.random.default_rng(0).integers(low, high, (64, 16)).astype(kind)


def embedded(kind, scale=1):
    """A model that looks up activations and multiplies them by integers, as a dynamically quantised layer does."""
    table = np.random.default_rng(1).random((300, 64), np.float32)
    zero = numpy_helper.from_array(np.zeros((), kind), "zero")
    product = numpy_helper.from_array((weights(kind) // scale).astype(kind), "weight")
    names = ("input_ids", "attention_mask")
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT32, [1, "n"]) for name in names]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "weight", "z", "zero"], ["y"]),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.INT32, None)]
    outputs.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, None))
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(table, "table"), product, zero])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def split(items=3, length=8):
    ids = np.random.default_rng(2).integers(0, 300, (items, length)).astype(np.int32)
    mask = np.ones_like(ids)
    mask[0, 5:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def counted(model, tmp_path):
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    found = runtime.saturation(tmp_path, split())
    return found["clipped"], found["sums"]


def test_neighbouring_products_are_added_and_a_last_odd_one_stands_alone():
    activations = np.array([[255, 255, 10]], np.uint8)
    columns = np.array([[127, -127], [127, 1], [3, 3]], np.int8)
    assert saturation.pair_sums(activations, columns).tolist() == [[[64770, -32130], [30, 30]]]


def test_signed_weights_are_counted_over_tokens_and_never_over_padding(tmp_path):
    clipped, sums = counted(embedded(np.int8), tmp_path)
    assert sums == (5 + 8 + 8) * 32 * 16
    assert 0 < clipped < sums


def test_weights_that_cannot_clip_whatever_is_multiplied_are_not_run(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("ran a model of which nothing can clip")

    monkeypatch.setattr(saturation, "_activations", refuse)
    assert counted(embedded(np.int8, scale=2), tmp_path) == (0, 0)
    with pytest.raises(AssertionError, match="nothing can clip"):
        counted(embedded(np.int8), tmp_path)


@pytest.mark.parametrize(
    ("pair", "clips"), [((64, 64), False), ((64, 65), True), ((-64, -64), False), ((-64, -65), True)]
)
def test_what_can_clip_is_told_from_two_neighbours_of_one_sign(pair, clips):
    column = np.array([*pair, 127, -127, 127], np.int8)[:, None]
    worst = np.where(column.T > 0, 255, 0), np.where(column.T < 0, 255, 0)
    sums = [saturation.pair_sums(activations.astype(np.uint8), column) for activations in worst]
    assert saturation.can_clip(column) == clips
    assert any((one > saturation.HIGH).any() or (one < saturation.LOW).any() for one in sums) == clips


def test_unsigned_weights_are_not_counted(tmp_path):
    assert counted(embedded(np.uint8), tmp_path) == (0, 0)


@pytest.mark.parametrize("op", ["DynamicQuantizeMatMul", "MatMulIntegerToFloat"])
def test_products_that_give_out_floats_are_counted_alike(op, tmp_path):
    model = embedded(np.int8)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.1), "scale"))
    del model.graph.node[-1 if op == "MatMulIntegerToFloat" else -2 :]
    inputs = ["x", "weight", "scale"] if op == "DynamicQuantizeMatMul" else ["q", "weight", "s", "scale", "z"]
    model.graph.node.append(helper.make_node(op, inputs, ["y"], domain="com.microsoft"))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    assert counted(model, tmp_path) == counted(embedded(np.int8), tmp_path)


RUN = """
import sys
import numpy as np
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
ids = np.arange(8, dtype=np.int32)[None]
np.savez(sys.argv[2], *session.run(["q", "y", "z"], {"input_ids": ids, "attention_mask": np.ones_like(ids)}))
"""


@pytest.mark.skipif(QEMU is None, reason="qemu-x86_64 is not installed: no CPU without VNNI to be had here")
@pytest.mark.parametrize(("kind", "exact"), [(np.int8, False), (np.uint8, True)])
def test_onnx_runtime_without_vnni_clips_exactly_these_sums(kind, exact, tmp_path):
    model = embedded(kind)
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.UINT8, None) for name in ("q", "z"))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "run.py").write_text(RUN, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": sysconfig.get_paths()["purelib"]}
    command = [QEMU, "-cpu", "Haswell", str(Path(sys.executable).resolve()), str(tmp_path / "run.py")]
    subprocess.run([*command, str(tmp_path / "model.onnx"), str(tmp_path / "out.npz")], check=True, env=environment)
    with np.load(tmp_path / "out.npz") as found:
        activations, got, zero = found["arr_0"][0], found["arr_1"][0], int(found["arr_2"])
    columns = weights(kind).astype(np.int32)
    correction = zero * columns.sum(axis=0)
    plain = activations.astype(np.int32) @ columns - correction
    assert (got == plain).all() == exact
    if not exact:
        clipped = saturation.pair_sums(activations, weights(kind)).clip(saturation.LOW, saturation.HIGH).sum(axis=1)
        assert (got == clipped - correction).all()
