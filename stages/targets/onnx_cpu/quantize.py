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
from stages.schema.variant import Dynamic, Float, OnnxCpu, Precision, Static, WeightOnly
from stages.targets.base import SIGNATURE
from stages.targets.onnx_cpu import FUSED, SUPPORTED, embeddings, graph, products, ranges, storage, supports
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
        What was asked, what `convert` fused, the weights compressed and those left in fp32, each with its bytes,
        scales aside.

    Raises:
        Unsupported: the precision is not one of `SUPPORTED`.
        InputError: static without a calibration utterance.
        ConversionError: a weight is not finite, or the written graph is not at the precision that was asked for.
    """
    match precision:
        case Float(bits=bits) | Dynamic(weight_bits=bits) | Static(weight_bits=bits) | WeightOnly(weight_bits=bits) if (
            supports(precision)
        ):
            pass
        case _:
            raise Unsupported(f"onnx-cpu cannot lower to {precision.model_dump()}", expected=SUPPORTED)
    model = graph.load(converted / graph.MODEL)
    check_finite(model)
    weights = graph.weights(model)
    compressed = [weight for weight in weights if bits < 32 and weight.elements >= SMALLEST]
    if bits < 32:
        _lower(model, compressed, precision, calibration)
    graph.write(model, out / graph.MODEL)
    shutil.copyfile(converted / SIGNATURE, out / SIGNATURE)
    left = [weight for weight in weights if weight not in compressed]
    return {
        "asked": precision.model_dump(mode="json"),
        "fused": artifact.read_json(converted / FUSED),
        "quantized": {kind: _tally(compressed, kind, bits) for kind in graph.KINDS},
        "left_float": {kind: _tally(left, kind, bits=32) for kind in graph.KINDS},
    }


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
    """Refuse a graph that does not read a smaller weight wherever one of `weights` was used.

    A layer that is passed over leaves a smaller file that looks right.

    Args:
        model: ModelProto after compression.
        weights: the float weights that were to be compressed, as they were before.

    Raises:
        ConversionError: names a weight left in float, or the kind of operator that was passed over.
    """
    left = graph.float_matrices(model, SMALLEST)
    if left:
        raise ConversionError(f"weight '{left[0]}' was left in float", expected=f"{len(weights)} smaller weights")
    asked = Counter({kind: sum(weight.uses for weight in weights if weight.kind == kind) for kind in graph.KINDS})
    found = graph.compressed_uses(model)
    if found != +asked:
        raise ConversionError(f"{dict(found)} operators read compressed weights", expected=f"{dict(+asked)}")


def _lower(model: Any, large: list[Weight], precision: Precision, calibration: Mapping[str, NDArray[Any]]) -> None:
    """Compress weights in place. Each is named with what it becomes, so that a precision may mix."""
    factors, tables = ([one.name for one in large if one.kind == kind] for kind in ("product", "lookup"))
    if not factors:
        raise ConversionError("the graph has no matrix product to quantise", next_step="check the converted model")
    match precision:
        case Float(bits=16):
            storage.store_factors(model, factors, half=True)
            storage.store_tables(model, tables)
        case WeightOnly(weight_bits=4, granularity="block_32"):
            products.lower(model, dict.fromkeys(factors, products.block_4bit))
            embeddings.quantize_tables_4bit(model, tables)
        case WeightOnly(weight_bits=8, granularity="tensor" | "channel" as granularity):
            storage.store_factors(model, factors, half=False, per_channel=granularity == "channel")
            embeddings.quantize_tables(model, tables, granularity == "channel")
        case Dynamic(weight_bits=8, granularity="tensor" | "channel" as granularity):
            products.lower(model, dict.fromkeys(factors, products.dynamic(granularity == "channel")))
            embeddings.quantize_tables(model, tables, granularity == "channel")
        case Static(weight_bits=8, activation_bits=8, granularity=granularity):
            sources = (linear.source for linear in products.linears(model) if linear.weight in factors)
            found = ranges.measure(model, sources, calibration)
            products.lower(model, dict.fromkeys(factors, products.static(granularity == "channel", found)))
            embeddings.quantize_tables(model, tables, granularity == "channel")
    check(model, large)
    graph.clean(model)


def _tally(weights: Iterable[Weight], kind: str, bits: int) -> dict[str, int]:
    chosen = [weight for weight in weights if weight.kind == kind]
    return {
        "bytes": sum(weight.elements for weight in chosen) * bits // 8,
        "operators": sum(weight.uses for weight in chosen),
        "tensors": len(chosen),
    }
