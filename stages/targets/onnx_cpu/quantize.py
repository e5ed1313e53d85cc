"""Lower the fp32 graph to a precision, in a form that cannot saturate on a CPU without VNNI (`integers`)."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact
from stages.core.errors import ConversionError, Unsupported
from stages.schema.variant import Dynamic, Float, OnnxCpu, Precision, Static
from stages.targets.base import SIGNATURE
from stages.targets.onnx_cpu import FUSED, SUPPORTED, embeddings, graph, products, ranges
from stages.targets.onnx_cpu.graph import Weight

SMALLEST = 1024
"""Elements below which a weight stays float: its scale and the extra operators outweigh the bytes."""


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
        What was asked, what `convert` fused, the weights quantised and those left in float, each with its bytes.

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
            weights, quantized = _lower(model, precision, calibration)
            graph.write(model, out / graph.MODEL)
            report = _report(weights, quantized)
        case _:
            raise Unsupported(f"onnx-cpu cannot lower to {precision.model_dump()}", expected=SUPPORTED)
    shutil.copyfile(converted / SIGNATURE, out / SIGNATURE)
    return {"asked": precision.model_dump(mode="json"), "fused": artifact.read_json(converted / FUSED), **report}


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

    A layer that is passed over leaves a smaller file that looks right.

    Args:
        model: ModelProto after quantisation.
        weights: the float weights that were to be quantised, as they were before.

    Raises:
        ConversionError: names a weight left in float, or the kind of operator that was passed over.
    """
    left = _large(graph.weights(model))
    if left:
        raise ConversionError(f"weight '{left[0].name}' was left in float", expected=f"{len(weights)} integer weights")
    asked = Counter({kind: sum(weight.uses for weight in weights if weight.kind == kind) for kind in graph.KINDS})
    found = graph.integer_uses(model)
    if found != +asked:
        raise ConversionError(f"{dict(found)} operators became integer", expected=f"{dict(+asked)}")


def _lower(
    model: Any, precision: Dynamic | Static, calibration: Mapping[str, NDArray[Any]]
) -> tuple[list[Weight], list[Weight]]:
    """Quantise in place; returns all weights, and those that were."""
    weights = graph.weights(model)
    large = _large(weights)
    factors = [weight.name for weight in large if weight.kind == "product"]
    if not factors:
        raise ConversionError("the graph has no matrix product to quantise", next_step="check the converted model")
    per_channel = precision.granularity == "channel"
    if isinstance(precision, Static):
        sources = (linear.source for linear in products.linears(model) if linear.weight in factors)
        emit = products.static(per_channel, ranges.measure(model, sources, calibration))
    else:
        emit = products.dynamic(per_channel)
    # What each weight becomes is said weight by weight, so that a precision may mix.
    products.lower(model, dict.fromkeys(factors, emit))
    embeddings.quantize_tables(model, {weight.name for weight in large if weight.kind == "lookup"}, per_channel)
    check(model, large)
    graph.clean(model)
    return weights, large


def _large(weights: Iterable[Weight]) -> list[Weight]:
    return [weight for weight in weights if weight.elements >= SMALLEST]


def _report(weights: Sequence[Weight], quantized: Sequence[Weight]) -> dict[str, Any]:
    left = [weight for weight in weights if weight not in quantized]
    return {
        "quantized": {kind: _tally(quantized, kind, bytes_each=1) for kind in graph.KINDS},
        "left_float": {kind: _tally(left, kind, bytes_each=4) for kind in graph.KINDS},
    }


def _tally(weights: Iterable[Weight], kind: str, bytes_each: int) -> dict[str, int]:
    chosen = [weight for weight in weights if weight.kind == kind]
    return {
        "bytes": sum(weight.elements for weight in chosen) * bytes_each,
        "operators": sum(weight.uses for weight in chosen),
        "tensors": len(chosen),
    }
