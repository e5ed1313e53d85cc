"""Run a `model.tflite` with LiteRT's CPU kernels, XNNPACK where it has them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError, first_line
from stages.targets.base import Opened, Signature, read_signature
from stages.targets.executing import loaded
from stages.targets.tflite_nnapi import LITERT
from stages.targets.tflite_nnapi.entries import entries, signature_name
from stages.targets.tflite_nnapi.flatbuffer import MODEL
from stages.targets.tflite_nnapi.stepping import open_decoder
from stages.tasks.base import IDS, Arrays, Call, State


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


def open_runtime(artifact: Path, threads: int) -> Opened:
    """Open an artifact directory for inference on `threads` cores, every signature allocated.

    For one thread of Python: two in one runtime silently read each other's tensors.

    Raises:
        ArtifactError: the model or its signature is missing, damaged, or not runnable by this LiteRT.
    """
    from ai_edge_litert.interpreter import Interpreter

    path = artifact / MODEL
    signature = read_signature(artifact)
    if not path.is_file():
        raise ArtifactError(f"'{artifact}' has no {MODEL}", next_step="run `dvc repro`")
    if any(call.states for call in signature.calls):
        return open_decoder(path, signature, threads)
    try:
        runners = signature_runners(Interpreter(model_path=str(path), num_threads=threads), signature)
    except (ValueError, RuntimeError) as error:
        first = first_line(error)
        raise ArtifactError(f"LiteRT cannot open '{path}': {first}", next_step="run `dvc repro`") from error
    for name, (given, answered) in entries(signature).items():
        found = set(runners[name].get_input_details()), set(runners[name].get_output_details())
        if found != (set(given), set(answered)):
            raise ArtifactError(f"'{path}' maps {found[0]} to {found[1]}", expected=f"what '{artifact}' signs")
    return opened(runners, signature)


def signature_runners(interpreter: Any, signature: Signature) -> dict[str, Any]:
    """Return name → what runs it, of every signature of a file; raises what the interpreter does."""
    return {name: interpreter.get_signature_runner(name) for name in entries(signature)}


def opened(runners: Mapping[str, Any], signature: Signature) -> Opened:
    """Make a session of what runs each signature of a file, whichever interpreter opened it."""
    grids = {
        key: {name: detail["quantization"] for name, detail in runner.get_output_details().items()}
        for key, runner in runners.items()
    }

    def execute(call: Call, inputs: Arrays, state: State) -> Arrays:  # noqa: ARG001 (no call keeps any)
        key = signature_name(inputs[IDS].shape[1], call.name)
        try:
            outputs = runners[key](**inputs)
        except (ValueError, RuntimeError) as error:
            first = first_line(error)
            raise ArtifactError(f"LiteRT cannot run '{MODEL}': {first}", next_step="run `dvc repro`") from error
        return {name: _dequantize(outputs[name], *grids[key][name]) for name in call.names[1]}

    return Opened(LITERT, signature, execute)


def _dequantize(values: NDArray[Any], scale: float, zero_point: int) -> NDArray[np.float32]:
    if values.dtype == np.float32:
        return np.asarray(values)
    return (values.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
