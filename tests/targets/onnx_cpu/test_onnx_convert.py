"""Conversion to ONNX: parity with Hugging Face, and equal bytes everywhere."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from stages.core.errors import ConversionError
from stages.targets.onnx_cpu import FUSED, graph
from stages.targets.onnx_cpu.convert import _check_signature
from stages.targets.onnx_cpu.intermediates import intermediates
from stages.targets.onnx_cpu.runtime import open_runtime
from stages.tasks.base import FORWARD, Tensor, encoder
from stages.tasks.classify.interface import CALLS
from tests.targets.onnx_models import (
    FAMILIES,
    REPOSITORY,
    SMALLER,
    TARGET,
    TASK,
    VOCABULARY,
    run_all,
    sha256,
    utterances,
)
from tests.targets.running import run_elsewhere

pytestmark = pytest.mark.target


@pytest.mark.parametrize("family", FAMILIES)
def test_converted_graph_agrees_with_hugging_face_at_every_length(
    family: str, checkpoints: dict[str, Path], converted: dict[str, Path]
) -> None:
    import torch

    from stages.models.checkpoint import load_model

    model, runtime = load_model(checkpoints[family]), open_runtime(converted[family], threads=1)
    random = np.random.default_rng(0)
    for length, padded in ((1, 0), (2, 0), (7, 0), (16, 5), (32, 0), (32, 20)):
        ids = random.integers(1, VOCABULARY, (1, length)).astype(np.int32)
        mask = np.ones_like(ids)
        mask[:, length - padded :] = 0
        with torch.no_grad():
            reference = model(torch.tensor(ids).long(), attention_mask=torch.tensor(mask).long()).logits.numpy()
        logits = runtime.run(FORWARD, {"input_ids": ids, "attention_mask": mask})["logits"]
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, reference, atol=1e-5)
        assert np.ptp(reference) > 0.05


def test_one_graph_takes_any_batch(converted: dict[str, Path]) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(converted["bert"] / graph.MODEL, providers=["CPUExecutionProvider"])
    inputs = utterances(3)
    batch = session.run(["logits"], inputs)[0]
    np.testing.assert_allclose(batch, run_all(converted["bert"], inputs), atol=1e-5)


def test_albert_stores_its_shared_layer_once(checkpoints: dict[str, Path], converted: dict[str, Path]) -> None:
    weights = (checkpoints["albert"] / "model.safetensors").stat().st_size
    assert (converted["albert"] / graph.MODEL).stat().st_size < 1.3 * weights


def test_bytes_hold_no_path_of_this_machine(
    checkpoints: dict[str, Path], converted: dict[str, Path], artifacts: dict[str, Path]
) -> None:
    forbidden = [b"site-packages", b'.py", line', str(REPOSITORY).encode(), str(Path.home()).encode() + b"/"]
    forbidden += [str(path.parent).encode() for path in checkpoints.values()]
    for directory in (*converted.values(), *artifacts.values()):
        written = (directory / graph.MODEL).read_bytes()
        assert [item for item in forbidden if item in written] == []


OTHER_PROCESS = """
import pickle, sys
from pathlib import Path
checkpoint, converted, calibration, task, target, precisions, out = pickle.loads(sys.stdin.buffer.read())
from stages.targets.onnx_cpu.quantize import quantize
for name, precision in precisions.items():
    (out / name).mkdir(parents=True)
    quantize(converted, precision, calibration, target, out / name)
assert "torch" not in sys.modules, "quantize imported torch"
from stages.targets.onnx_cpu.convert import convert
(out / "converted").mkdir()
convert(checkpoint, task, target, out / "converted")
"""


def test_another_process_writes_the_same_bytes_and_quantises_without_torch(
    checkpoints: dict[str, Path], converted: dict[str, Path], artifacts: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "again"
    work = (checkpoints["bert"], converted["bert"], utterances(16, seed=1), TASK, TARGET, SMALLER, out)
    run_elsewhere(OTHER_PROCESS, work, tmp_path)
    expected = {name: sha256(path) for name, path in {**artifacts, "converted": converted["bert"]}.items()}
    assert {path.name: sha256(path) for path in out.iterdir()} == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_every_attention_is_fused_and_the_last_layer_computes_one_token(
    family: str, converted: dict[str, Path]
) -> None:
    layers = {"albert": 6}.get(family, 2)
    fused = json.loads((converted[family] / FUSED).read_text(encoding="utf-8"))
    model = graph.load(converted[family] / graph.MODEL)
    operators = Counter(node.op_type for node in model.graph.node)
    assert fused["attention"] == fused["layers"] == operators["MultiHeadAttention"] == layers
    assert fused["softmax_left"] == operators["Softmax"] == operators["Reshape"] == operators["Transpose"] == 0
    assert fused["tanh_gelu"] == (layers if family == "albert" else 0)
    assert operators["Squeeze"] == operators["Slice"] == 1  # the first token, and positions
    assert fused["shift"] == operators["Pad"] == (2 if family == "mobilebert" else 0)
    assert operators["Expand"] == operators["GatherElements"] == operators["Concat"] - (family == "mobilebert") == 0
    inputs = {name: rows[:1, :9] for name, rows in utterances(1).items()}
    found = [
        value.shape[1] for kind, _, value in intermediates(converted[family], inputs) if kind == "MultiHeadAttention"
    ]
    assert found == [9] * (layers - 1) + [1]


def test_an_attention_of_another_form_is_counted_and_transposed_weights_are_stored_so(
    checkpoints: dict[str, Path],
) -> None:
    import onnx_ir as ir

    from stages.models.export import load_export_module
    from stages.targets.onnx_cpu import fuse
    from stages.targets.onnx_cpu.convert import _export

    exported = _export(load_export_module(checkpoints["bert"]), CALLS[0], TASK.max_length, TARGET.opset)
    products = [node for node in exported.graph if node.op_type == "MatMul" and node.inputs[1].const_value is not None]
    for node in products:  # as torch leaves matrices that ALBERT's layers share
        upright = ir.Value(
            name=f"{node.inputs[1].name}_upright", const_value=ir.tensor(node.inputs[1].const_value.numpy().T)
        )
        exported.graph.register_initializer(upright)
        turn = ir.node("Transpose", [upright], attributes={"perm": [1, 0]})
        exported.graph.insert_before(node, turn)
        node.replace_input_with(1, turn.outputs[0])
    softmax = next(node for node in exported.graph if node.op_type == "Softmax")
    softmax.attributes["axis"] = type(softmax.attributes["axis"])("axis", softmax.attributes["axis"].type, 2)
    found = fuse.fuse(exported, layers=2, max_length=TASK.max_length)
    assert (found["layers"], found["attention"], found["softmax_left"]) == (2, 1, 1)
    assert all(node.inputs[1].const_value is not None for node in products)
    assert found["first_token"] == 14


def test_convert_refuses_a_graph_with_other_inputs_or_outputs(converted: dict[str, Path]) -> None:

    model = graph.load(converted["bert"] / graph.MODEL)
    with pytest.raises(ConversionError, match="expected opset 19 only"):
        _check_signature(model, CALLS[0], 19)
    every_token = encoder(Tensor(name="logits", dtype="float32", axes=["batch", "sequence", "classes"]))
    with pytest.raises(ConversionError, match=r"to {'logits': \['batch', \d+\]}; expected .*'sequence', 'classes'"):
        _check_signature(model, every_token, 20)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 8
    with pytest.raises(ConversionError, match="the exported graph maps"):
        _check_signature(model, CALLS[0], 20)
