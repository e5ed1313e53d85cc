"""Lowering ONNX to integers: what is quantised, what cannot saturate, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.core.errors import ArtifactError, ConversionError, InputError, Unsupported
from stages.schema.variant import Dynamic, Float, Palettized, Static
from stages.targets.base import SIGNATURE
from stages.targets.onnx_cpu import graph, integers, lowering, products, quantize, supports
from stages.targets.onnx_cpu.embeddings import quantize_tables
from stages.targets.onnx_cpu.saturation import HIGH, LOW, pair_sums, saturating_sums
from tests.targets.onnx_models import (
    INTEGER,
    SMALLER,
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
    assert report["quantized"]["product"]["tensors"] == 0
    assert report["left_float"]["product"]["tensors"] == 14


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
    assert report["quantized"]["lookup"]["tensors"] == 2


def saturating(model: Any) -> list[str]:
    """Integer weights of which two neighbours may overflow 16 bits, whatever uint8 activations they meet."""
    from onnx import numpy_helper

    values = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    products = {*graph.INTEGER_PRODUCTS, "MatMulInteger"}
    weights = {node.input[1] for node in model.graph.node if node.op_type in products}
    return sorted(name for name in weights if not LOW <= _worst(values[name], -1) <= _worst(values[name], 1) <= HIGH)


def _worst(weight: Any, sign: int) -> int:
    """Largest sum of a sign, where those activations are 255 whose weights have it, and 0 the others."""
    brightest = np.full((1, len(weight)), 255, np.uint8)
    return sign * int((sign * pair_sums(brightest, np.where(weight * sign > 0, weight, 0).astype(np.int8))).max())


@pytest.mark.parametrize("name", INTEGER)
def test_no_weight_can_saturate_avx2(name: str, artifacts: dict[str, Path]) -> None:
    assert saturating(graph.load(artifacts[name] / graph.MODEL)) == []
    assert saturating_sums(artifacts[name] / graph.MODEL, utterances(4, seed=3)) == (0, 0)


def test_full_range_int8_weights_saturate(converted: dict[str, Path], tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = tmp_path / graph.MODEL
    model = graph.load(converted["bert"] / graph.MODEL)
    quantize_dynamic(
        model,
        path,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["MatMul"],
        extra_options={"DefaultTensorType": 1},
    )
    assert len(saturating(graph.load(path))) >= 12


@pytest.mark.parametrize("per_channel", [True, False])
def test_a_scale_is_no_longer_than_neighbours_of_one_sign_need(per_channel: bool) -> None:
    weight = np.random.default_rng(0).normal(size=(65, 16)).astype(np.float32)  # an odd last row stands alone
    weight[0, :3], weight[1, :3] = [4, 4, -4], [4, -4, -4]
    levels, scale = integers.pairwise(weight, per_channel)
    assert np.abs(levels * scale - weight).max() <= 0.501 * scale.max()
    sums = levels[0:64:2].astype(int) + levels[1:64:2]
    assert np.abs(sums).max() in (126, 127, 128)
    if per_channel:
        assert scale.shape == (16,)
        np.testing.assert_allclose(scale[:3], np.array([8, 4, 8]) / 127, rtol=1e-6)
    narrow = integers.symmetric(weight, 0)[1][0]
    assert (narrow <= scale * 1.0001).all()


def _by_hand(name: str, value: Any, is_product: bool, is_gemm: bool) -> Any:
    """What a precision makes of a weight, without an operator of ONNX Runtime."""
    if name == "fp16":
        return value.astype(np.float16).astype(np.float32)
    if name == "weight-only-8-channel":
        levels, scale = integers.symmetric(value, 1 if is_gemm or not is_product else 0)
        return levels * scale
    rows = value if is_gemm or not is_product else value.T
    levels, scale = integers.blocks(rows, halves=True)
    found = levels * integers.per_element(scale, rows.shape[1])
    return found if is_gemm or not is_product else found.T


@pytest.mark.parametrize("family", ["bert", "mobilebert", "albert"])
@pytest.mark.parametrize("name", ["fp16", "weight-only-8-channel", "weight-only-4-block"])
def test_weights_alone_are_rounded_and_every_kernel_reads_them_so(
    name: str, family: str, converted: dict[str, Path], tmp_path: Path
) -> None:
    # 4-bit blocks once fell to 0.77 agreement on a fused graph: a kernel that reads blocks in another order gives
    # numbers, and logits of a classifier still look like logits.
    from onnx import numpy_helper

    out, report = lowered(converted[family], SMALLER[name], tmp_path / "made")
    assert sum(kind["bytes"] for kind in report["left_float"].values()) < 2000
    model = graph.load(converted[family] / graph.MODEL)
    large = {one.name: one.kind for one in graph.weights(model) if one.elements >= 1024}
    gemm = {node.input[1] for node in model.graph.node if node.op_type == "Gemm"}
    sliced = {node.input[0] for node in model.graph.node if node.op_type == "Slice"}
    for item in model.graph.initializer:
        if item.name in large:
            value = numpy_helper.to_array(item)
            if item.name in sliced and name != "fp16":  # positions have one scale a column
                levels, scale = integers.symmetric(value, 0)
                rounded = levels * scale
            else:
                rounded = _by_hand(name, value, large[item.name] == "product", item.name in gemm)
            item.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(rounded, np.float32), item.name))
    (tmp_path / "hand").mkdir()
    graph.write(model, tmp_path / "hand" / graph.MODEL)
    (tmp_path / "hand" / SIGNATURE).write_bytes((converted[family] / SIGNATURE).read_bytes())
    inputs = utterances(8, seed=4)
    expected = run_all(tmp_path / "hand", inputs)
    assert np.abs(run_all(out, inputs) - expected).max() < 1e-4 * np.ptp(expected)
    assert np.abs(expected - run_all(converted[family], inputs)).max() > 1e-4 * np.ptp(expected)


@pytest.mark.parametrize("name", INTEGER)
def test_report_counts_what_the_graph_holds(name: str, converted: dict[str, Path], tmp_path: Path) -> None:
    out, report = lowered(converted["bert"], INTEGER[name], tmp_path)
    assert report["asked"]["granularity"] == INTEGER[name].granularity  # type: ignore[union-attr]
    found = graph.compressed_uses(graph.load(out / graph.MODEL))
    assert {f"{kind} of 8 bits": tally["operators"] for kind, tally in report["quantized"].items()} == found
    assert found == {"product of 8 bits": 13, "lookup of 8 bits": 2}  # a head of five labels is not worth it
    assert {kind: tally["tensors"] for kind, tally in report["left_float"].items()} == {"lookup": 0, "product": 1}
    assert report["fused"]["attention"] == report["fused"]["layers"] == 2


def test_a_layer_that_is_passed_over_is_an_error(
    converted: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = products.linears
    monkeypatch.setattr(products, "linears", lambda model: original(model)[1:])
    with pytest.raises(ConversionError, match="was left in float; expected fewer bits"):
        lowered(converted["bert"], INTEGER["dynamic-tensor"], tmp_path)
    assert not (tmp_path / graph.MODEL).exists()


def test_a_product_with_a_float_factor_is_an_error(converted: dict[str, Path], artifacts: dict[str, Path]) -> None:
    weights = graph.weights(graph.load(converted["bert"] / graph.MODEL))
    asked = lowering.shares(weights, INTEGER["static-channel"])
    model = graph.load(artifacts["static-channel"] / graph.MODEL)
    lowering.check(model, asked)
    next(node for node in model.graph.node if node.op_type == "MatMulIntegerToFloat").op_type = "MatMul"
    with pytest.raises(ConversionError, match="12 product of 8 bits; expected .*13 product of 8 bits"):
        lowering.check(model, asked)


def test_a_shared_layer_is_stored_once_at_every_precision(converted: dict[str, Path], tmp_path: Path) -> None:
    once = (converted["albert"] / graph.MODEL).stat().st_size
    for name, precision in SMALLER.items():
        out, report = lowered(converted["albert"], precision, tmp_path / name)
        product = report["quantized"]["product"]
        assert (product["operators"], product["tensors"]) == (38, 8)
        assert (out / graph.MODEL).stat().st_size < (0.55 if name == "fp16" else 0.4) * once


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
    assert all(supports(precision) for precision in SMALLER.values())
    for precision in (
        Dynamic(kind="dynamic", weight_bits=4, granularity="channel"),
        Static(kind="static", weight_bits=8, activation_bits=16, granularity="tensor"),
        Palettized(kind="palettized", weight_bits=4, granularity="tensor", sparsity=0),
    ):
        assert not supports(precision)
        with pytest.raises(Unsupported, match="expected float 16 or 32, dynamic wi8, static wi8_ai8"):
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
    quantize_tables(model, {"table"}, granularity == "channel")
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
