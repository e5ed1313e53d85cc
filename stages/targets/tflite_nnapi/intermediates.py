"""Run a `model.tflite` and keep what every operator computes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError, first_line
from stages.targets.base import Inputs
from stages.targets.tflite_nnapi import flatbuffer
from stages.targets.tflite_nnapi.entries import signature_name


def intermediates(artifact: Path, inputs: Inputs) -> Iterator[tuple[str, str, NDArray[np.float32]]]:
    """Compute one utterance as `runtime` does, every tensor kept: XNNPACK then writes those inside its part too.

    Yields:
        Operator type, tensor name and value of each float or quantised tensor, dequantised, in order of execution.

    Raises:
        ArtifactError: the model is damaged, or fails when it runs.
    """
    from ai_edge_litert.interpreter import Interpreter

    model = flatbuffer.read(artifact / flatbuffer.MODEL)
    signature = signature_name(inputs["input_ids"].shape[1])
    index = next(item.subgraphIndex for item in model.signatureDefs if item.signatureKey.decode() == signature)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that this is for debugging
            interpreter = Interpreter(
                model_path=str(artifact / flatbuffer.MODEL), num_threads=1, experimental_preserve_all_tensors=True
            )
        interpreter.get_signature_runner(signature)(**inputs)
    except (ValueError, RuntimeError) as error:
        raise ArtifactError(f"LiteRT cannot run '{flatbuffer.MODEL}': {first_line(error)}") from error
    graph = model.subgraphs[index]
    for kind, operator in flatbuffer.operators_of(model, graph):
        for output in operator.outputs:
            value = _value(interpreter.get_tensor(int(output), index), graph.tensors[output].quantization)
            if value is not None:
                yield kind, graph.tensors[output].name.decode(), value


def _value(stored: NDArray[Any], quantization: Any) -> NDArray[np.float32] | None:
    if stored.dtype.kind == "f":
        return stored.astype(np.float32)
    if quantization is None or quantization.scale is None:
        return None  # indices or a shape
    # Activations have one scale; only weights have one per channel.
    zero, scale = np.float32(quantization.zeroPoint[0]), np.float32(quantization.scale[0])
    return (stored.astype(np.float32) - zero) * scale
