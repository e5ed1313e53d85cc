"""Lowering ONNX to integers: what is quantised, what cannot saturate, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.core.errors import ArtifactError, ConversionError, InputError, Unsupported
from stages.schema.variant import Dynamic, Float, Palettized, Static
from stages.targets.onnx_cpu import graph, quantize, supports
from stages.targets.onnx_cpu.embeddings import quantize_tables
from tests.targets.onnx_models import (
    INTEGER,
    TARGET,
    lowered,
    run_all,
    sha256,
    utterances,
)

pytestmark = pytest.mark.target


def test_float_32_is_the_converted_graph(converted: dict[str, Path], tmp_path: Path) -> None:
    out, report = lowered(converted["bert"], Float(kind="float", bits=32), tmp_path)
    assert sha256(out) == sha256(converted["bert"])
    assert report["quantized"]["MatMul"]["tensors"] == 0
    assert report["left_float"]["MatMul"]["tensors"] == 12


@pytest.mark.parametrize("name", INTEGER)
def test_integer_artifacts_agree_with_fp32_and_are_a_third_of_its_size(
    name: str, converted: dict[str, Path], artifacts: dict[str, Path]
) -> None:
    inputs = utterances(24, seed=2)
    reference, outputs = run_all(converted["bert"], inputs), run_all(artifacts[name], inputs)
    assert 0 < np.abs(outputs - reference).max() < 0.05 * np.ptp(reference)
    size = (artifacts[name] / graph.MODEL).stat().st_size
    assert size < 0.4 * (converted["bert"] / graph.MODEL).stat().st_size


@pytest.mark.parametrize("family", ["distilbert", "mobilebert", "albert"])
@pytest.mark.parametrize("name", ["dynamic-tensor", "static-tensor"])
def test_every_family_survives_the_coarsest_integers(
    family: str, name: str, converted: dict[str, Path], tmp_path: Path
) -> None:
    # MobileBERT slices its embeddings: a DequantizeLinear before a Slice loses all negative values in ONNX Runtime.
    out, report = lowered(converted[family], INTEGER[name], tmp_path)
    inputs = utterances(16, seed=2)
    reference = run_all(converted[family], inputs)
    assert np.abs(run_all(out, inputs) - reference).max() < 0.06 * np.ptp(reference)
    assert report["quantized"]["Gather"]["tensors"] == 2


def saturating(model: Any) -> list[str]:
    """Integer products with int8 weights beyond 7 bits, which AVX2 adds up wrongly, or int8 activations."""
    import onnx
    from onnx import numpy_helper

    values = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    expanded = {node.output[0]: node.input for node in model.graph.node if node.op_type == "DequantizeLinear"}
    dtypes = {
        node.output[0]: values[node.input[2]].dtype for node in model.graph.node if node.op_type == "QuantizeLinear"
    }
    weights = [node.input[1] for node in model.graph.node if node.op_type == "MatMulInteger"]
    activations = []
    for node in model.graph.node:
        if node.op_type in {"MatMul", "Gemm"} and node.input[1] in expanded:
            weights.append(expanded[node.input[1]][0])
            activations.append(expanded[node.input[0]][0])
    assert weights, onnx.helper.printable_graph(model.graph)
    bad = [name for name in weights if values[name].dtype == np.int8 and np.abs(values[name].astype(int)).max() > 64]
    return bad + [name for name in activations if dtypes[name] != np.uint8]


@pytest.mark.parametrize("name", INTEGER)
def test_no_weight_can_saturate_avx2(name: str, artifacts: dict[str, Path]) -> None:
    assert saturating(graph.load(artifacts[name] / graph.MODEL)) == []


def test_the_saturation_check_sees_full_range_int8_weights(converted: dict[str, Path], tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = tmp_path / graph.MODEL
    model = graph.load(converted["bert"] / graph.MODEL)
    quantize_dynamic(model, path, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["MatMul"])
    assert len(saturating(graph.load(path))) >= 12


@pytest.mark.parametrize("name", INTEGER)
def test_report_counts_what_the_graph_holds(name: str, converted: dict[str, Path], tmp_path: Path) -> None:
    out, report = lowered(converted["bert"], INTEGER[name], tmp_path)
    assert report["asked"]["granularity"] == INTEGER[name].granularity  # type: ignore[union-attr]
    found = graph.integer_uses(graph.load(out / graph.MODEL))
    assert {kind: tally["operators"] for kind, tally in report["quantized"].items() if tally["operators"]} == found
    assert found["MatMul"] + found["Gemm"] == 13
    assert found["Gather"] == 2  # words and positions; two token types and a head of five labels are not worth it
    left = {kind: tally["tensors"] for kind, tally in report["left_float"].items()}
    assert left["Gather"] == 1
    assert left["Gemm"] + left["MatMul"] == 1


def test_a_quantiser_that_skips_an_operator_is_an_error(
    converted: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = quantize._quantize_dynamic
    monkeypatch.setattr(
        quantize, "_quantize_dynamic", lambda model, path, products, *rest: original(model, path, products[1:], *rest)
    )
    with pytest.raises(ConversionError, match="was left in float; expected 15 integer weights"):
        lowered(converted["bert"], INTEGER["dynamic-tensor"], tmp_path)
    assert not (tmp_path / graph.MODEL).exists()


def test_a_product_with_a_float_factor_is_an_error(converted: dict[str, Path], artifacts: dict[str, Path]) -> None:
    asked = [item for item in graph.weights(graph.load(converted["bert"] / graph.MODEL)) if item.elements >= 1024]
    model = graph.load(artifacts["static-channel"] / graph.MODEL)
    quantize.check(model, asked)
    expanded = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    product = next(node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in expanded)
    product.input[0] = "layer_norm"
    with pytest.raises(ConversionError, match="'MatMul': 11.* operators became integer; expected .*'MatMul': 12"):
        quantize.check(model, asked)


def test_a_graph_without_weights_is_an_error(converted: dict[str, Path], tmp_path: Path) -> None:
    model = graph.load(converted["bert"] / graph.MODEL)
    del model.graph.initializer[:]
    (tmp_path / graph.MODEL).write_bytes(model.SerializeToString())
    with pytest.raises(ConversionError, match="no matrix product to quantise"):
        lowered(tmp_path, INTEGER["dynamic-tensor"], tmp_path / "out")


def test_static_without_calibration_is_an_error(converted: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="calibration split is empty"):
        quantize.quantize(converted["bert"], INTEGER["static-tensor"], utterances(0), TARGET, tmp_path)


def test_calibration_shapes_static_and_nothing_else(
    converted: dict[str, Path], artifacts: dict[str, Path], tmp_path: Path
) -> None:
    for name, same in (("static-tensor", False), ("dynamic-tensor", True)):
        (tmp_path / name).mkdir()
        quantize.quantize(converted["bert"], INTEGER[name], utterances(4, seed=9), TARGET, tmp_path / name)
        assert (sha256(tmp_path / name) == sha256(artifacts[name])) is same


def test_unsupported_precisions_are_refused_with_the_list(converted: dict[str, Path], tmp_path: Path) -> None:
    assert supports(Float(kind="float", bits=32))
    assert all(supports(precision) for precision in INTEGER.values())
    for precision in (
        Float(kind="float", bits=16),
        Dynamic(kind="dynamic", weight_bits=4, granularity="channel"),
        Static(kind="static", weight_bits=8, activation_bits=16, granularity="tensor"),
        Palettized(kind="palettized", weight_bits=4),
    ):
        assert not supports(precision)
        with pytest.raises(Unsupported, match="expected float 32, dynamic wi8, static wi8_ai8"):
            quantize.quantize(converted["bert"], precision, utterances(1), TARGET, tmp_path)


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_a_table_row_is_at_most_half_a_step_off(granularity: Any, tmp_path: Path) -> None:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    table = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32) * np.logspace(-2, 0, 64)[:, None]
    table = table.astype(np.float32)
    table[3] = 0
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Gather", ["table", "ids"], ["rows"], name="lookup")],
            "lookup",
            [helper.make_tensor_value_info("ids", TensorProto.INT32, ["n"])],
            [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", 32])],
            [numpy_helper.from_array(table, "table")],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    quantize_tables(model, graph.weights(model), granularity)
    assert {item.data_type for item in model.graph.initializer} == {TensorProto.INT8, TensorProto.FLOAT}
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rows = session.run(None, {"ids": np.arange(64, dtype=np.int32)})[0]
    step = np.abs(table).max(axis=1 if granularity == "channel" else None, keepdims=granularity == "channel") / 127
    assert (np.abs(rows - table) <= 0.501 * step).all()
    assert not rows[3].any()


def test_a_damaged_converted_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / graph.MODEL).write_bytes(b"\xff" * 64)
    with pytest.raises(ArtifactError, match="cannot read ONNX model"):
        lowered(tmp_path, INTEGER["dynamic-tensor"], tmp_path / "out")
