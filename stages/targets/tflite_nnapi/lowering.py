"""Run ai-edge-quantizer over the fp32 file with the recipe that a precision asks for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ConversionError, first_line
from stages.schema.variant import Dynamic, Float, Precision, Static, TfliteNnapi, WeightOnly
from stages.targets.tflite_nnapi import flatbuffer, normalisation

BLOCKS = {"block_32": 32}
"""Granularity → weights of an output channel that share a scale, where not all of them do."""
Recipe = list[dict[str, Any]]
Samples = dict[str, list[dict[str, NDArray[np.int32]]]]
"""Signature name → inputs int32 [1, length] of each utterance."""


def recipe_of(precision: Precision, target: TfliteNnapi, source: Path) -> Recipe:
    """Write the recipe of a precision, the same for every weight; `float 32` is an empty one.

    Args:
        precision: what to lower to.
        target: at static precisions, the bits of lookup tables and normalisations.
        source: the converted file, which is searched for normalisations, and for rows that blocks do not fill.
    """
    manager = _manager()
    _add(manager, ".*", precision)
    if isinstance(precision, Dynamic) and precision.granularity in BLOCKS:
        _add_narrower(manager, flatbuffer.read(source), precision)
    if isinstance(precision, Static):
        from ai_edge_quantizer.qtyping import TFLOperationName
        from ai_edge_quantizer.recipe_manager import AlgorithmName

        if target.static_embedding_bits == 8:
            lookup = TFLOperationName.EMBEDDING_LOOKUP
            manager.add_dynamic_config(".*", lookup, 8, _scales()[precision.granularity])
        names = normalisation.scopes(flatbuffer.read(source)) if target.static_normalisation_bits == 32 else []
        if names:
            everything, left = TFLOperationName.ALL_SUPPORTED, AlgorithmName.NO_QUANTIZE
            manager.add_quantization_config(_any_of(names), everything, algorithm_key=left)
    return list(manager.get_quantization_recipe())


def fitting(precision: Precision, width: int) -> Precision:
    """Return the precision that a weight gets whose rows have this width.

    ai-edge-quantizer refuses blocks that do not fill a row. Such a weight gets 8 bits and a scale for each channel: of
    4 bits without blocks it would lose more than was asked for.
    """
    if isinstance(precision, Dynamic) and width % BLOCKS.get(precision.granularity, 1):
        return Dynamic(kind="dynamic", weight_bits=8, granularity="channel")
    return precision


def _add_narrower(manager: Any, model: Any, precision: Precision, among: Sequence[str] | None = None) -> None:
    """Give what reads rows that blocks do not fill what `fitting` says, of all operators or some by name."""
    widths = {weight.buffer: weight.width for weight in flatbuffer.weights(model)}
    for graph in model.subgraphs:
        for kind, operator in flatbuffer.operators_of(model, graph):
            at, name = flatbuffer.WEIGHT_INPUT.get(kind), graph.tensors[operator.outputs[0]].name.decode()
            width = None if at is None else widths.get(int(graph.tensors[operator.inputs[at]].buffer))
            given = precision if width is None else fitting(precision, width)
            if given != precision and (among is None or name in among):
                _add(manager, _any_of([name]), given)


def recipe_of_mixture(model: Any, low: Precision, high: Precision, scopes: Sequence[str]) -> Recipe:
    """Write the recipe of two precisions.

    Args:
        model: the converted file.
        low: of the operators named by `scopes`.
        high: of all others.
        scopes: names of what operators compute.
    """
    manager = _manager()
    _add(manager, ".*", high)
    _add_narrower(manager, model, high)
    if scopes:
        _add(manager, _any_of(scopes), low)
        _add_narrower(manager, model, low, scopes)
    return list(manager.get_quantization_recipe())


def _any_of(scopes: Sequence[str]) -> str:
    return f"^({'|'.join(re.escape(scope) for scope in scopes)});?$"


def _manager() -> Any:
    from ai_edge_quantizer.recipe_manager import RecipeManager

    return RecipeManager()


def _scales() -> dict[str, Any]:
    from ai_edge_quantizer.qtyping import QuantGranularity

    return {
        "tensor": QuantGranularity.TENSORWISE,
        "channel": QuantGranularity.CHANNELWISE,
        "block_32": QuantGranularity.BLOCKWISE_32,
    }


def _add(manager: Any, regex: str, precision: Precision) -> None:
    from ai_edge_quantizer.qtyping import TFLOperationName
    from ai_edge_quantizer.recipe_manager import AlgorithmName

    everything, scales = TFLOperationName.ALL_SUPPORTED, _scales()
    match precision:
        case Float(bits=16):
            manager.add_weight_only_config(regex, everything, 16, scales["tensor"], AlgorithmName.FLOAT_CASTING)
        case Dynamic():
            manager.add_dynamic_config(regex, everything, precision.weight_bits, scales[precision.granularity])
        case WeightOnly():
            manager.add_weight_only_config(regex, everything, precision.weight_bits, scales[precision.granularity])
        case Static():
            bits = precision.activation_bits, precision.weight_bits
            manager.add_static_config(regex, everything, *bits, scales[precision.granularity])


def lower(source: Path, recipe: Recipe, samples: Samples) -> bytes:
    """Run ai-edge-quantizer.

    Args:
        source: the converted file.
        recipe: what to do; an empty one leaves the file as it is.
        samples: read where the recipe is static.

    Raises:
        ConversionError: it gave up; the first line of its reason.
    """
    from ai_edge_quantizer.quantizer import Quantizer

    if not recipe:
        return source.read_bytes()
    try:
        quantizer = Quantizer(str(source), recipe)
        ranges = _calibrate(source, recipe, samples) if samples else None
        return bytes(quantizer.quantize(ranges).quantized_model)
    except (ValueError, RuntimeError) as error:
        first = first_line(error)
        raise ConversionError(f"ai-edge-quantizer failed: {first}", next_step="read the log beside the output") from (
            error
        )


def _calibrate(source: Path, recipe: Recipe, samples: Samples) -> dict[str, Any]:
    from ai_edge_quantizer.calibrator import Calibrator
    from ai_edge_quantizer.recipe_manager import RecipeManager
    from ai_edge_quantizer.utils.qsv_utils import min_max_update

    manager = RecipeManager()
    manager.load_quantization_recipe(recipe)
    # The default, a moving average of minima and maxima, clips the largest logits: 2.8 off on CLINC150 against 0.9.
    calibrator = Calibrator(source.read_bytes(), num_threads=1, qsv_update_func=min_max_update)
    calibrator.calibrate(samples, manager)
    return dict(calibrator.get_model_qsvs())
