"""Put weights at their precisions, each at its own where there are two, and check that it happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ConversionError
from stages.schema.variant import Dynamic, Float, Gptq, Mixed, Precision, Static, WeightOnly
from stages.targets.onnx_cpu import embeddings, gptq, graph, products, ranges, storage
from stages.targets.onnx_cpu.graph import Weight

SMALLEST = 1024
"""Elements below which a weight stays float: its scale and the extra operators outweigh the bytes."""


@dataclass(frozen=True)
class Share:
    """Weights that get one precision, which is not a mixture."""

    precision: Precision
    weights: tuple[Weight, ...]

    def bits(self, weight: Weight) -> int:
        """Of one number as stored. What a `Slice` reads, positions, is too small for blocks of 4 bits: it gets 8."""
        match self.precision:
            case Float(bits=bits):
                return bits
            case (
                Dynamic(weight_bits=bits)
                | Gptq(weight_bits=bits)
                | Static(weight_bits=bits)
                | WeightOnly(weight_bits=bits)
            ):
                return 8 if weight.sliced else bits
        raise AssertionError(self.precision)  # `supports` lets nothing else in


def shares(weights: Sequence[Weight], precision: Precision, low: Collection[str] = ()) -> list[Share]:
    """Assign a precision to every weight that is large enough for one.

    Args:
        weights: of the converted graph.
        precision: what was asked.
        low: of a mixture, names of the weights at its low precision.
    """
    large = [weight for weight in weights if weight.elements >= SMALLEST]
    if not isinstance(precision, Mixed):
        return [Share(precision, tuple(large))]
    return [
        Share(precision.low, tuple(weight for weight in large if weight.name in low)),
        Share(precision.high, tuple(weight for weight in large if weight.name not in low)),
    ]


def lower(model: Any, assigned: Sequence[Share], calibration: Mapping[str, NDArray[Any]]) -> None:
    """Compress weights in place.

    Args:
        model: fp32 ModelProto of `convert`.
        assigned: output of `shares`.
        calibration: `input_ids`, `attention_mask` int32 [n, max_length], right-padded; read by static and GPTQ only.

    Raises:
        ConversionError: there is nothing to quantise, or something that was to be compressed was passed over.
        InputError: static without a calibration utterance.
    """
    lowered = [share for share in assigned if share.precision != Float(kind="float", bits=32)]
    if not lowered:
        return
    if not any(weight.kind == "product" for share in assigned for weight in share.weights):
        raise ConversionError("the graph has no matrix product to quantise", next_step="check the converted model")
    for share in lowered:
        _lower(model, share, calibration)
    check(model, assigned)
    graph.clean(model)


def _lower(model: Any, share: Share, calibration: Mapping[str, NDArray[Any]]) -> None:
    factors, tables = ([one.name for one in share.weights if one.kind == kind] for kind in ("product", "lookup"))
    alone = [name for name in tables if name not in factors]  # what is expanded for a product is looked up there too
    match share.precision:
        case Float(bits=16):
            storage.store_factors(model, factors, half=True)
            storage.store_tables(model, alone)
        case Gptq():
            round_ = gptq.rounder(model, factors, calibration)
            products.lower(model, dict.fromkeys(factors, products.block_4bit(graph.INTEGERS, round_)))
            embeddings.quantize_tables_4bit(model, tables)
        case Dynamic(weight_bits=4) | WeightOnly(weight_bits=4):
            level = graph.INTEGERS if share.precision.kind == "dynamic" else graph.FLOATS
            products.lower(model, dict.fromkeys(factors, products.block_4bit(level)))
            embeddings.quantize_tables_4bit(model, tables)
        case WeightOnly(weight_bits=8, granularity="tensor" | "channel" as granularity):
            storage.store_factors(model, factors, half=False, per_channel=granularity == "channel")
            embeddings.quantize_tables(model, alone, granularity == "channel")
        case Dynamic(weight_bits=8, granularity="tensor" | "channel" as granularity):
            products.lower(model, dict.fromkeys(factors, products.dynamic(granularity == "channel")))
            embeddings.quantize_tables(model, tables, granularity == "channel")
        case Static(weight_bits=8, activation_bits=8, granularity=granularity):
            sources = (linear.source for linear in products.linears(model) if linear.weight in factors)
            found = ranges.measure(model, sources, calibration)
            products.lower(model, dict.fromkeys(factors, products.static(granularity == "channel", found)))
            embeddings.quantize_tables(model, tables, granularity == "channel")


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


def check(model: Any, assigned: Sequence[Share]) -> None:
    """Refuse a graph that does not read a weight of so many bits wherever one of the float weights was used.

    A layer that is passed over leaves a smaller file that looks right.

    Args:
        model: ModelProto after compression.
        assigned: what was to be compressed to what.

    Raises:
        ConversionError: names a weight left in float, or counts the operators that read weights of other bits.
    """
    asked: Counter[str] = Counter()
    floats = set()
    for share in assigned:
        for weight in share.weights:
            if share.bits(weight) == 32:
                floats.add(weight.name)
            else:
                asked[f"{weight.kind} of {share.bits(weight)} bits"] += weight.uses
    left = [name for name in graph.float_matrices(model, SMALLEST) if name not in floats]
    if left:
        raise ConversionError(f"weight '{left[0]}' was left in float", expected="fewer bits")
    found = graph.compressed_uses(model)
    if found != asked:
        raise ConversionError(f"operators read {_phrase(found)}", expected=_phrase(asked))


def _phrase(uses: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(uses.items()))
