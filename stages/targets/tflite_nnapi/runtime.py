"""Run a `model.tflite` with LiteRT's CPU kernels, XNNPACK where it has them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError, first_line
from stages.targets.base import OUTPUTS, Inputs, pad_to_signature, read_signature
from stages.targets.executing import loaded
from stages.targets.tflite_nnapi import LITERT
from stages.targets.tflite_nnapi.flatbuffer import MODEL, signature_name


def available() -> str | None:
    """Return None where LiteRT is installed, else the reason it cannot run here."""
    return None if util.find_spec("ai_edge_litert") else "ai-edge-litert is not installed"


def timing_unavailable() -> str | None:
    """Return None where a latency measured here means something, else the reason it does not."""
    return available()


def versions() -> dict[str, str]:
    """Return what executes artifacts here, as it says of itself: distribution → version."""
    return {"ai-edge-litert": loaded("ai-edge-litert", "ai_edge_litert")}


def saturation(artifact: Path, split: Mapping[str, NDArray[np.int32]]) -> dict[str, int]:  # noqa: ARG001
    """Return nothing: no kernel that runs it is known to clip on some CPUs and not on others."""
    return {}


class LitertRuntime:
    """An opened `model.tflite`, for one thread: two threads in one runtime silently read each other's tensors.

    Attributes:
        label: what executes.
        batches: it takes one utterance at a time.
    """

    label = LITERT
    batches = False

    def __init__(self, runners: dict[int, Any], pad_token_id: int) -> None:
        """Wrap one signature runner per sequence length."""
        self._runners = runners
        self._pad_token_id = pad_token_id
        self._grids = {
            length: {name: detail["quantization"] for name, detail in runner.get_output_details().items()}
            for length, runner in runners.items()
        }

    def run(self, inputs: Inputs) -> dict[str, NDArray[np.float32]]:
        """Compute logits fp32 [1, labels] of one utterance: int32 ids and mask [1, n].

        Raises:
            InputError: an input is missing, of another type or shape, or longer than every signature.
            ArtifactError: the model opened, and fails when it runs.
        """
        padded = pad_to_signature(inputs, list(self._runners), self._pad_token_id)
        length = padded["input_ids"].shape[1]
        try:
            outputs = self._runners[length](**padded)
        except (ValueError, RuntimeError) as error:
            first = first_line(error)
            raise ArtifactError(f"LiteRT cannot run '{MODEL}': {first}", next_step="run `dvc repro`") from error
        return {name: _dequantize(outputs[name], *self._grids[length][name]) for name in OUTPUTS}


def open_runtime(artifact: Path, threads: int) -> LitertRuntime:
    """Open an artifact directory for inference on `threads` cores, every signature allocated.

    Raises:
        ArtifactError: the model or its signature is missing, damaged, or not runnable by this LiteRT.
    """
    from ai_edge_litert.interpreter import Interpreter

    signature = read_signature(artifact)
    path = artifact / MODEL
    if not path.is_file():
        raise ArtifactError(f"'{artifact}' has no {MODEL}", next_step="run `dvc repro`")
    try:
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
        runners = {n: interpreter.get_signature_runner(signature_name(n)) for n in signature.sequence_lengths}
    except (ValueError, RuntimeError) as error:
        first = first_line(error)
        raise ArtifactError(f"LiteRT cannot open '{path}': {first}", next_step="run `dvc repro`") from error
    for runner in runners.values():
        found = set(runner.get_input_details()), set(runner.get_output_details())
        if found != (set(signature.inputs), set(signature.outputs)):
            raise ArtifactError(f"'{path}' maps {found[0]} to {found[1]}", expected=f"what '{artifact}' signs")
    return LitertRuntime(runners, signature.pad_token_id)


def _dequantize(values: NDArray[Any], scale: float, zero_point: int) -> NDArray[np.float32]:
    if values.dtype == np.float32:
        return np.asarray(values)
    return (values.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
