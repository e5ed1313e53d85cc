"""Lower the fp32 TFLite file to a precision with ai-edge-quantizer, and check that it did."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ConversionError, InputError, Unsupported
from stages.schema.variant import Dynamic, Float, Mixed, Precision, Static, TfliteNnapi, WeightOnly
from stages.targets.base import SIGNATURE, read_signature
from stages.targets.tflite_nnapi import SUPPORTED, flatbuffer, lowering, mixed, normalisation, reason, supports
from stages.targets.tflite_nnapi.entries import signature_name
from stages.targets.tflite_nnapi.runtime import open_runtime
from stages.targets.tflite_nnapi.stepping import answers
from stages.tasks.base import INPUTS


def quantize(
    converted: Path,
    precision: Precision,
    calibration: Mapping[str, NDArray[Any]],
    target: TfliteNnapi,
    out: Path,
) -> dict[str, Any]:
    """Write `model.tflite` at `precision` and `signature.json` into an existing directory.

    Returns:
        What was asked, calibration utterances per signature, integer tensors, weights per type, and the bytes of
        each weight left in float; of a mixture also what was measured to choose it.

    Raises:
        Unsupported: the precision is none of `SUPPORTED`.
        InputError: no calibration utterance fits a signature.
        ConversionError: what was asked did not happen, or the result does not run.
    """
    if not supports(precision):
        raise Unsupported(f"tflite-nnapi cannot do {precision}{reason(precision)}", expected=f"one of: {SUPPORTED}")
    source, lowered = converted / flatbuffer.MODEL, out / flatbuffer.MODEL
    shutil.copyfile(converted / SIGNATURE, out / SIGNATURE)
    samples: lowering.Samples = {}
    mixture: dict[str, Any] = {}
    low: set[str] = set()
    if isinstance(precision, Static):
        samples = select_samples(calibration, read_signature(converted).sequence_lengths)
    if isinstance(precision, Mixed):
        mixture, whole = mixed.find(converted, precision, calibration), flatbuffer.read(source)
        low = {group.weight for name, group in mixed.groups(whole).items() if name in mixture["low"]}
        recipe = mixed.recipe(whole, precision, mixture["low"])
    else:
        recipe = lowering.recipe_of(precision, target, source)
    flatbuffer.write(flatbuffer.parse(lowering.lower(source, recipe, samples), flatbuffer.MODEL), lowered)
    model = flatbuffer.read(lowered)
    check_weights(flatbuffer.weights(model), precision, target, low)
    check_normalisations(model, precision, target)
    _check_runs(out)
    report = _report(model, precision, {name: len(chosen) for name, chosen in samples.items()})
    return report | ({"mixture": mixture} if mixture else {})


def select_samples(calibration: Mapping[str, NDArray[np.int32]], lengths: list[int]) -> lowering.Samples:
    """Give every signature the utterances that fit it, cut to its length.

    A signature has activation ranges of its own, so short utterances calibrate the long signatures too.

    Raises:
        InputError: a signature would get none.
    """
    true_lengths = calibration["attention_mask"].sum(axis=1)
    samples = {
        signature_name(length): [
            {name: np.ascontiguousarray(calibration[name][row : row + 1, :length]) for name in INPUTS}
            for row in np.flatnonzero(true_lengths <= length)
        ]
        for length in lengths
    }
    for length in lengths:
        if not samples[signature_name(length)]:
            raise InputError(
                f"no calibration utterance has {length} tokens or fewer",
                expected="at least one for each of task.sequence_lengths",
                next_step="raise data.calibration_size or drop the length",
            )
    return samples


def check_weights(
    weights: list[flatbuffer.Weight], precision: Precision, target: TfliteNnapi, low: Collection[str] = ()
) -> None:
    """Compare every weight with what was asked: ai-edge-quantizer skips without a word what it does not support.

    Args:
        weights: of the written file.
        precision: what was asked.
        target: bits of lookup tables at static precisions.
        low: of a mixture, names of the weights at its low precision.

    Raises:
        ConversionError: names the first weight that differs.
    """
    if not any(weight.operator == "FULLY_CONNECTED" for weight in weights):
        raise ConversionError("the file has no FULLY_CONNECTED weight", expected="those of the checkpoint's layers")
    for weight in weights:
        asked: Precision = precision
        if isinstance(precision, Mixed):
            asked = precision.low if weight.name in low else precision.high
        asked = lowering.fitting(asked, weight.width)
        wanted, found = _wanted(weight, asked, target), _found(weight)
        if found != wanted:
            raise ConversionError(f"weight of {weight.operator} '{weight.name}' is {found}", expected=wanted)
        _check_scales(weight, getattr(asked, "granularity", "channel"))


def check_normalisations(model: Any, precision: Precision, target: TfliteNnapi) -> None:
    """Compare what normalisations are computed in with what was asked.

    Args:
        model: the written file.
        precision: what was asked.
        target: bits of normalisations at static precisions.

    Raises:
        ConversionError: one is computed in another type.
    """
    wanted = "FLOAT32"
    if isinstance(precision, Static) and target.static_normalisation_bits == 8:
        wanted = f"INT{precision.activation_bits}"
    alien = normalisation.types(model) - {wanted}
    if alien:
        raise ConversionError(f"normalisations are computed in {', '.join(sorted(alien))}", expected=wanted)


def _check_scales(weight: flatbuffer.Weight, granularity: str) -> None:
    if granularity == "tensor" and weight.scales > 1:
        raise ConversionError(f"weight '{weight.name}' has {weight.scales} scales", expected="1, for the tensor")
    block = lowering.BLOCKS.get(granularity, 0)
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
        case Dynamic() | WeightOnly():
            dtype = f"INT{precision.weight_bits}"
        case _:
            raise AssertionError(precision)  # `supports` lets nothing else in
    return _phrase(dtype, expanded, "INT32" if table else activation)


def _found(weight: flatbuffer.Weight) -> str:
    return _phrase(weight.dtype, weight.expanded, weight.activation)


def _phrase(dtype: str, expanded: bool, activation: str) -> str:
    return f"{dtype}{', expanded before use,' if expanded else ''} on {activation} activations"


def _check_runs(out: Path) -> None:
    signature = read_signature(out)
    if any(call.states for call in signature.calls):
        _check_each_runs(out / flatbuffer.MODEL)
        return
    session = open_runtime(out, threads=1)
    for call in signature.calls:
        for length in signature.sequence_lengths:
            inputs = {tensor.name: np.ones((1, length), np.int32) for tensor in call.inputs}
            for name, values in session.run(call.name, inputs, session.new_state()).items():
                if not np.isfinite(values).all():
                    raise ConversionError(
                        f"the artifact gives non-finite {name} at length {length}", expected="numbers"
                    )


def _check_each_runs(path: Path) -> None:
    """Run every signature of a language model, one by one where LiteRT expands the weights for each anew."""
    model = flatbuffer.read(path)
    expanded = any(weight.expanded for weight in flatbuffer.weights(model))
    with tempfile.TemporaryDirectory() as scratch:
        for place in _alone(model, Path(scratch)) if expanded else [path]:
            for name, values in answers(place):
                if not np.isfinite(values).all():
                    raise ConversionError(f"the artifact gives non-finite {name}", expected="numbers")


def _alone(model: Any, scratch: Path) -> Iterator[Path]:
    """Write a file of each signature alone, in the place of the one before."""
    for signed in model.signatureDefs:
        alone, entry = copy(model), copy(signed)
        alone.subgraphs, alone.signatureDefs, entry.subgraphIndex = [model.subgraphs[signed.subgraphIndex]], [entry], 0
        flatbuffer.write(alone, scratch / flatbuffer.MODEL)
        yield scratch / flatbuffer.MODEL


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
