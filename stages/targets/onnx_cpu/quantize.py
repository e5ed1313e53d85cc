"""Lower the fp32 graph to int8, in a form that cannot saturate on a CPU without VNNI.

AVX2 multiplies uint8 activations by int8 weights in pairs added into 16 bits, which overflows for weights of the
full range: two thirds of a student's answers changed. So activations and weights are both uint8 here, whose
kernels are exact on every x86-64 and ARM64 host (research: 0 % wrong products, against 90 to 100 %).
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ConversionError, InputError, Unsupported
from stages.schema.variant import Dynamic, Float, OnnxCpu, Precision, Static
from stages.targets.base import SIGNATURE, utterances
from stages.targets.onnx_cpu import SUPPORTED, embeddings, graph
from stages.targets.onnx_cpu.graph import Weight

SMALLEST = 1024
"""Elements below which a weight stays float: its scale and the extra operators outweigh the bytes."""
KINDS = ("Gather", "Gemm", "MatMul")


def quantize(
    converted: Path,
    precision: Precision,
    calibration: Mapping[str, NDArray[Any]],
    target: OnnxCpu,  # noqa: ARG001 (every target's signature)
    out: Path,
) -> dict[str, Any]:
    """Write `model.onnx` at a precision, and `signature.json`, into an existing directory.

    Args:
        converted: output of `convert`.
        precision: see `SUPPORTED`.
        calibration: `input_ids`, `attention_mask` int32 [n, max_length], right-padded; read by static only.
        target: not read; nothing of it shapes a precision.
        out: directory to write into.

    Returns:
        What was asked, the weights quantised and those left in float, each with its bytes.

    Raises:
        Unsupported: the precision is not one of `SUPPORTED`.
        InputError: static without a calibration utterance.
        ConversionError: a weight is not finite, or the written graph is not at the precision that was asked for.
    """
    model = graph.load(converted / graph.MODEL)
    check_finite(model)
    match precision:
        case Float(bits=32):
            graph.write(model, out / graph.MODEL)
            report = _report(graph.weights(model), [])
        case Dynamic(weight_bits=8) | Static(weight_bits=8, activation_bits=8):
            integer, weights = _lower(model, precision, calibration)
            graph.write(integer, out / graph.MODEL)
            report = _report(weights, _large(weights))
        case _:
            raise Unsupported(f"onnx-cpu cannot lower to {precision.model_dump()}", expected=SUPPORTED)
    shutil.copyfile(converted / SIGNATURE, out / SIGNATURE)
    return {"asked": precision.model_dump(mode="json"), **report}


def check_finite(model: Any) -> None:
    """Refuse NaN and infinity, which have no integer.

    Raises:
        ConversionError: names the weight.
    """
    from onnx import numpy_helper

    for item in model.graph.initializer:
        values = numpy_helper.to_array(item)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ConversionError(f"'{item.name}' has NaN or infinite values", next_step="check the checkpoint")


def check(model: Any, weights: Sequence[Weight]) -> None:
    """Refuse a graph that does not compute on integers wherever one of `weights` was used.

    Quantisers skip what they do not recognise, with exit code 0 and a smaller file that looks right.

    Args:
        model: ModelProto after quantisation.
        weights: the float weights that were to be quantised, as they were before.

    Raises:
        ConversionError: names a weight left in float, or the kind of operator that was passed over.
    """
    left = _large(graph.weights(model))
    if left:
        raise ConversionError(f"weight '{left[0].name}' was left in float", expected=f"{len(weights)} integer weights")
    asked = Counter({kind: sum(len(weight.nodes) for weight in weights if weight.op == kind) for kind in KINDS})
    found = graph.integer_uses(model)
    if found != +asked:
        raise ConversionError(f"{dict(found)} operators became integer", expected=f"{dict(+asked)}")


def _lower(
    model: Any, precision: Dynamic | Static, calibration: Mapping[str, NDArray[Any]]
) -> tuple[Any, list[Weight]]:
    from onnxruntime.quantization.onnx_model import ONNXModel

    if isinstance(precision, Dynamic):
        # The dynamic quantiser does this anyway, under new node names that the list it was given does not hold.
        ONNXModel(model).replace_gemm_with_matmul()
        graph.clean(model)
    weights = graph.weights(model)
    large = _large(weights)
    products = [node for weight in large if weight.op != "Gather" for node in weight.nodes]
    if not products:
        raise ConversionError("the graph has no matrix product to quantise", next_step="check the converted model")
    embeddings.quantize_tables(model, [weight for weight in large if weight.op == "Gather"], precision.granularity)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / graph.MODEL
        if isinstance(precision, Static):
            _quantize_static(model, path, products, precision.granularity == "channel", calibration)
        else:
            _quantize_dynamic(model, path, products, precision.granularity == "channel")
        integer = graph.load(path)
    _bypass_rounding(integer)
    check(integer, large)
    graph.clean(integer)
    return integer, weights


def _quantize_dynamic(model: Any, path: Path, products: list[str], per_channel: bool) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        model,
        path,
        op_types_to_quantize=["MatMul"],
        nodes_to_quantize=products,
        weight_type=QuantType.QUInt8,
        per_channel=per_channel,
    )


def _quantize_static(
    model: Any, path: Path, products: list[str], per_channel: bool, calibration: Mapping[str, NDArray[Any]]
) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    if not calibration["attention_mask"].any():
        raise InputError("the calibration split is empty", expected="at least one utterance")
    quantize_static(
        model,
        path,
        _Utterances(calibration),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul", "Gemm"],
        nodes_to_quantize=products,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QUInt8,
        per_channel=per_channel,
        calibrate_method=CalibrationMethod.MinMax,
        # A product's result goes into a bias, a softmax or a LayerNormalization, all float: rounding it to 256
        # levels on the way costs agreement and time and saves nothing.
        extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"]},
    )


def _bypass_rounding(model: Any) -> None:
    """Give float operators the float tensor where the quantiser gave them its rounded copy.

    Before: `Add(DequantizeLinear(QuantizeLinear(x)), y)`, a residual of 256 levels; after: `Add(x, y)`.
    """
    rounded = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    exact = {
        node.output[0]: rounded[node.input[0]]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in rounded
    }
    for node in model.graph.node:
        if node.op_type not in {"MatMul", "Gemm"}:
            for position, name in enumerate(node.input):
                node.input[position] = exact.get(name, name)


class _Utterances:
    """Feeds the calibration split to ONNX Runtime, each utterance at its true length: padding has no range."""

    def __init__(self, calibration: Mapping[str, NDArray[Any]]) -> None:
        self._feeds = utterances(calibration)

    def get_next(self) -> dict[str, NDArray[np.int32]] | None:
        """Return the next utterance, or None after the last, as `CalibrationDataReader` asks."""
        return next(self._feeds, None)


def _large(weights: Iterable[Weight]) -> list[Weight]:
    return [weight for weight in weights if weight.elements >= SMALLEST]


def _report(weights: Sequence[Weight], quantized: Sequence[Weight]) -> dict[str, Any]:
    left = [weight for weight in weights if weight not in quantized]
    return {
        "quantized": {kind: _tally(quantized, kind, bytes_each=1) for kind in KINDS},
        "left_float": {kind: _tally(left, kind, bytes_each=4) for kind in KINDS},
    }


def _tally(weights: Iterable[Weight], kind: str, bytes_each: int) -> dict[str, int]:
    chosen = [weight for weight in weights if weight.op == kind]
    return {
        "bytes": sum(weight.elements for weight in chosen) * bytes_each,
        "operators": sum(len(weight.nodes) for weight in chosen),
        "tensors": len(chosen),
    }
