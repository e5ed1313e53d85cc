"""`litert/`: a model that runtimes too old for the artifact refuse, where they would answer wrongly."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from stages.releasing.source import Source
from stages.targets.base import SIGNATURE
from stages.targets.tflite_nnapi import flatbuffer

FOLDER = "litert"
MODEL = f"{FOLDER}/{flatbuffer.MODEL}"
PER_CHANNEL = {"EMBEDDING_LOOKUP": 4, "FULLY_CONNECTED": 12}
PER_BLOCK = {"EMBEDDING_LOOKUP": 4, "FULLY_CONNECTED": 14}
"""First version of an operator whose integer weights may have a scale per channel, or per block of one: older runtimes
compute with one scale and say nothing. Per channel as in tensorflow/lite/tools/versioning/op_version.cc; per block as
tried: LiteRT 2.0.3 knows FULLY_CONNECTED up to 13 and gives 2 of 50 answers, 2.1.0 knows 14 and gives all."""


def write(source: Source, bundle: Path) -> str:
    """Write the artifact with higher operator versions where it declares too low ones.

    Returns:
        Where the model lies that an app should load: the artifact itself where its versions are right.

    Raises:
        ArtifactError: the copy answers otherwise than the artifact.
    """
    model = flatbuffer.read(source.artifact / flatbuffer.MODEL)
    if not raise_versions(model):
        return flatbuffer.MODEL
    (bundle / FOLDER).mkdir(exist_ok=True)
    flatbuffer.write(model, bundle / MODEL)
    shutil.copyfile(source.artifact / SIGNATURE, bundle / FOLDER / SIGNATURE)
    source.check_directory(MODEL, bundle / FOLDER)
    return MODEL


def raise_versions(model: Any) -> bool:
    """Declare, in place, the versions that the weights' scales need; whether one was lower.

    ai-edge-quantizer leaves those of the float graph: TFLite 2.14 loads such a file with scales per channel and gives 1
    of 50 answers, where it should refuse. Weights that are expanded before use need none: it expands them rightly.
    """
    needed: dict[str, int] = {}
    for weight in flatbuffer.weights(model):
        first = (PER_BLOCK if weight.block else PER_CHANNEL)[weight.operator] if _has_scales(weight) else 0
        needed[weight.operator] = max(first, needed.get(weight.operator, 0))
    names, raised = flatbuffer.operator_names(), False
    for code in model.operatorCodes:
        version = needed.get(names[max(code.builtinCode, code.deprecatedBuiltinCode)], 0)
        if code.version < version:
            code.version, raised = version, True
    return raised


def _has_scales(weight: flatbuffer.Weight) -> bool:
    return weight.scales > 1 and not weight.expanded and weight.operator in PER_CHANNEL
