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
from stages.targets.tflite_nnapi.entries import PLACES, TOKENS, signature_name
from stages.tasks.base import DECODE, IDS


def intermediates(artifact: Path, inputs: Inputs) -> Iterator[tuple[str, str, NDArray[np.float32]]]:
    """Compute one utterance as `runtime` does, every tensor kept: XNNPACK then writes those inside its part too.

    A decoder reads it token by token, and what it computes of each is put behind each other.

    Yields:
        Operator type, tensor name and value of each float or quantised tensor, dequantised, in order of execution.

    Raises:
        ArtifactError: the model is damaged, or fails when it runs.
    """
    from ai_edge_litert.interpreter import Interpreter

    model = flatbuffer.read(artifact / flatbuffer.MODEL)
    ids = inputs[IDS]
    decoder = any(item.signatureKey.decode() == DECODE for item in model.signatureDefs)
    signature = DECODE if decoder else signature_name(ids.shape[1])
    index = next(item.subgraphIndex for item in model.signatureDefs if item.signatureKey.decode() == signature)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that this is for debugging
            interpreter = Interpreter(
                model_path=str(artifact / flatbuffer.MODEL), num_threads=1, experimental_preserve_all_tensors=True
            )
        runner, graph = interpreter.get_signature_runner(signature), model.subgraphs[index]
        if not decoder:
            runner(**inputs)
            yield from _kept(interpreter, model, graph, index)
            return
        steps = []
        details = runner.get_input_details().items()
        states = {key: np.zeros(one["shape"], one["dtype"]) for key, one in details if key not in (TOKENS, PLACES)}
        for place, token in enumerate(ids[0]):
            given = {TOKENS: np.array([[token]], np.int32), PLACES: np.array([place], np.int32)}
            made = runner(**given, **states)
            states = {key: made[key] for key in states}
            steps.append([one for one in _kept(interpreter, model, graph, index) if _is_of_a_token(one[2])])
    except (ValueError, RuntimeError) as error:
        raise ArtifactError(f"LiteRT cannot run '{flatbuffer.MODEL}': {first_line(error)}") from error
    for same in zip(*steps, strict=True):
        yield same[0][0], same[0][1], np.concatenate([value for _, _, value in same], axis=1)


def _is_of_a_token(value: NDArray[np.float32]) -> bool:
    """Whether it is a vector of one token, and not scores, heads or what all tokens left."""
    return value.ndim == 3 and value.shape[:2] == (1, 1)


def _kept(interpreter: Any, model: Any, graph: Any, index: int) -> Iterator[tuple[str, str, NDArray[np.float32]]]:
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
