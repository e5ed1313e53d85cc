"""Lower the fp32 TFLite file to a precision with ai-edge-quantizer, and check that it did."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ConversionError, InputError, Unsupported, first_line
from stages.schema.variant import Dynamic, Float, Precision, Static, TfliteNnapi, WeightOnly
from stages.targets.base import INPUTS, SIGNATURE, read_signature
from stages.targets.tflite_nnapi import SUPPORTED, flatbuffer, reason, supports
from stages.targets.tflite_nnapi.runtime import open_runtime

Samples = dict[str, list[dict[str, NDArray[np.int32]]]]
"""Signature name → inputs int32 [1, length] of each utterance."""
BLOCKS = {"block_32": 32}
"""Granularity → weights of an output channel that share a scale, where not all of them do."""


def quantize(
    converted: Path,
    precision: Precision,
    calibration: Mapping[str, NDArray[np.int32]],
    target: TfliteNnapi,
    out: Path,
) -> dict[str, Any]:
    """Write `model.tflite` at `precision` and `signature.json` into an existing directory.

    Args:
        converted: output of `convert`.
        precision: one of `SUPPORTED`.
        calibration: `input_ids` and `attention_mask`, int32 [n, max_length], right-padded; read for static only.
        target: bits of lookup tables at static precisions.
        out: directory to write into.

    Returns:
        What was asked, calibration utterances per signature, integer tensors, weights per type, and the bytes of
        each weight left in float.

    Raises:
        Unsupported: the precision is none of `SUPPORTED`.
        InputError: no calibration utterance fits a signature.
        ConversionError: what was asked did not happen, or the result does not run.
    """
    if not supports(precision):
        raise Unsupported(f"tflite-nnapi cannot do {precision}{reason(precision)}", expected=f"one of: {SUPPORTED}")
    source, lowered = converted / flatbuffer.MODEL, out / flatbuffer.MODEL
    shutil.copyfile(converted / SIGNATURE, out / SIGNATURE)
    samples: Samples = {}
    if precision == Float(kind="float", bits=32):
        shutil.copyfile(source, lowered)
    else:
        if isinstance(precision, Static):
            samples = select_samples(calibration, read_signature(converted).sequence_lengths)
        model = flatbuffer.parse(_lower(source, _recipe(precision, target), samples), flatbuffer.MODEL)
        flatbuffer.write(model, lowered)
    model = flatbuffer.read(lowered)
    check_weights(flatbuffer.weights(model), precision, target)
    _check_runs(out)
    return _report(model, precision, {name: len(chosen) for name, chosen in samples.items()})


def select_samples(calibration: Mapping[str, NDArray[np.int32]], lengths: list[int]) -> Samples:
    """Give every signature the utterances that fit it, cut to its length.

    A signature has activation ranges of its own, so short utterances calibrate the long signatures too.

    Raises:
        InputError: a signature would get none.
    """
    true_lengths = calibration["attention_mask"].sum(axis=1)
    samples = {
        flatbuffer.signature_name(length): [
            {name: np.ascontiguousarray(calibration[name][row : row + 1, :length]) for name in INPUTS}
            for row in np.flatnonzero(true_lengths <= length)
        ]
        for length in lengths
    }
    for length in lengths:
        if not samples[flatbuffer.signature_name(length)]:
            raise InputError(
                f"no calibration utterance has {length} tokens or fewer",
                expected="at least one for each of task.sequence_lengths",
                next_step="raise data.calibration_size or drop the length",
            )
    return samples


def check_weights(weights: list[flatbuffer.Weight], precision: Precision, target: TfliteNnapi) -> None:
    """Compare every weight with what was asked: ai-edge-quantizer skips without a word what it does not support.

    Raises:
        ConversionError: names the first weight that differs.
    """
    if not any(weight.operator == "FULLY_CONNECTED" for weight in weights):
        raise ConversionError("the file has no FULLY_CONNECTED weight", expected="those of the checkpoint's layers")
    for weight in weights:
        wanted, found = _wanted(weight, precision, target), _found(weight)
        if found != wanted:
            raise ConversionError(f"weight of {weight.operator} '{weight.name}' is {found}", expected=wanted)
        _check_scales(weight, getattr(precision, "granularity", "channel"))


def _check_scales(weight: flatbuffer.Weight, granularity: str) -> None:
    if granularity == "tensor" and weight.scales > 1:
        raise ConversionError(f"weight '{weight.name}' has {weight.scales} scales", expected="1, for the tensor")
    block = BLOCKS.get(granularity, 0)
    if weight.block != block:
        sizes = f"blocks of {weight.block}" if weight.block else "no blocks"
        raise ConversionError(f"weight '{weight.name}' has {sizes}", expected=f"a scale for every {block or 'channel'}")


def _wanted(weight: flatbuffer.Weight, precision: Precision, target: TfliteNnapi) -> str:
    table = weight.operator == "EMBEDDING_LOOKUP"
    activation, expanded = "FLOAT32", isinstance(precision, WeightOnly)
    match precision:
        case Float():
            dtype, expanded = f"FLOAT{precision.bits}", precision.bits == 16
        case Static():
            dtype = "FLOAT32" if table and target.static_embedding_bits == 32 else "INT8"
            activation = f"INT{precision.activation_bits}"
        case _:
            dtype = f"INT{precision.weight_bits}"
    return _phrase(dtype, expanded, "INT32" if table else activation)


def _found(weight: flatbuffer.Weight) -> str:
    return _phrase(weight.dtype, weight.expanded, weight.activation)


def _phrase(dtype: str, expanded: bool, activation: str) -> str:
    return f"{dtype}{', expanded before use,' if expanded else ''} on {activation} activations"


def _recipe(precision: Precision, target: TfliteNnapi) -> list[dict[str, Any]]:
    from ai_edge_quantizer.qtyping import QuantGranularity, TFLOperationName
    from ai_edge_quantizer.recipe_manager import AlgorithmName, RecipeManager

    everything, recipe = TFLOperationName.ALL_SUPPORTED, RecipeManager()
    scales = {
        "tensor": QuantGranularity.TENSORWISE,
        "channel": QuantGranularity.CHANNELWISE,
        "block_32": QuantGranularity.BLOCKWISE_32,
    }
    match precision:
        case Float():
            cast = AlgorithmName.FLOAT_CASTING
            recipe.add_weight_only_config(".*", everything, precision.bits, QuantGranularity.TENSORWISE, cast)
        case Dynamic():
            recipe.add_dynamic_config(".*", everything, precision.weight_bits, scales[precision.granularity])
        case WeightOnly():
            recipe.add_weight_only_config(".*", everything, precision.weight_bits, scales[precision.granularity])
        case Static():
            bits = precision.activation_bits, precision.weight_bits
            recipe.add_static_config(".*", everything, *bits, scales[precision.granularity])
            if target.static_embedding_bits == 8:
                recipe.add_dynamic_config(".*", TFLOperationName.EMBEDDING_LOOKUP, 8, scales[precision.granularity])
    return list(recipe.get_quantization_recipe())


def _lower(source: Path, recipe: list[dict[str, Any]], samples: Samples) -> bytes:
    from ai_edge_quantizer.quantizer import Quantizer

    try:
        quantizer = Quantizer(str(source), recipe)
        ranges = _calibrate(source, recipe, samples) if samples else None
        return bytes(quantizer.quantize(ranges).quantized_model)
    except (ValueError, RuntimeError) as error:
        first = first_line(error)
        raise ConversionError(f"ai-edge-quantizer failed: {first}", next_step="read the log beside the output") from (
            error
        )


def _calibrate(source: Path, recipe: list[dict[str, Any]], samples: Samples) -> dict[str, Any]:
    from ai_edge_quantizer.calibrator import Calibrator
    from ai_edge_quantizer.recipe_manager import RecipeManager
    from ai_edge_quantizer.utils.qsv_utils import min_max_update

    manager = RecipeManager()
    manager.load_quantization_recipe(recipe)
    # The default, a moving average of minima and maxima, clips the largest logits: 2.8 off on CLINC150 against 0.9.
    calibrator = Calibrator(source.read_bytes(), num_threads=1, qsv_update_func=min_max_update)
    calibrator.calibrate(samples, manager)
    return dict(calibrator.get_model_qsvs())


def _check_runs(out: Path) -> None:
    runtime = open_runtime(out, threads=1)
    for length in read_signature(out).sequence_lengths:
        logits = runtime.run({name: np.ones((1, length), np.int32) for name in INPUTS})["logits"]
        if not np.isfinite(logits).all():
            raise ConversionError(f"the artifact gives non-finite logits at length {length}", expected="numbers")


def _report(model: Any, precision: Precision, calibration: dict[str, int]) -> dict[str, Any]:
    weights, types = flatbuffer.weights(model), flatbuffer.tensor_types()
    tensors = [types[tensor.type] for graph in model.subgraphs for tensor in graph.tensors]
    return {
        "asked": precision.model_dump(),
        "calibration_utterances": calibration,
        "integer_tensors": sum(name in {"INT4", "INT8", "INT16"} for name in tensors),
        "tensors": len(tensors),
        "weights": {name: sum(item.dtype == name for item in weights) for name in sorted({w.dtype for w in weights})},
        "weights_left_float_bytes": {item.name: item.size_bytes for item in weights if item.dtype == "FLOAT32"},
    }
