"""Run a `model.onnx` with ONNX Runtime's CPU kernels, at the true length."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError, InputError, first_line
from stages.targets.base import INPUTS, OUTPUTS, Inputs, read_signature
from stages.targets.executing import loaded
from stages.targets.onnx_cpu import ORT
from stages.targets.onnx_cpu.graph import MODEL

DTYPES = {"tensor(int32)": np.int32, "tensor(int64)": np.int64}


def available() -> str | None:
    """Return None where ONNX Runtime is installed, else the reason it cannot run here."""
    return None if util.find_spec("onnxruntime") else "onnxruntime is not installed"


def timing_unavailable() -> str | None:
    """Return None where a latency measured here means something, else the reason it does not."""
    return available()


def versions() -> dict[str, str]:
    """Return what executes artifacts here, as it says of itself: distribution → version."""
    import onnxruntime

    # The native library's own answer: the package around it may be of another release.
    return {"onnxruntime": loaded("onnxruntime", "onnxruntime", onnxruntime.get_version_string())}


def saturation(artifact: Path, split: Mapping[str, NDArray[np.int32]]) -> dict[str, int]:
    """Count the 16-bit sums that an x86-64 CPU without VNNI would clip: `clipped` of `sums` (`onnx_cpu.saturation`)."""
    from stages.targets.onnx_cpu.saturation import saturating_sums

    clipped, sums = saturating_sums(artifact / MODEL, split)
    return {"clipped": clipped, "sums": sums}


class OnnxRuntime:
    """An opened `model.onnx`.

    Attributes:
        label: what executes.
        batches: it takes several utterances at once.
    """

    label = ORT
    batches = True

    def __init__(self, session: Any, max_length: int) -> None:
        """Wrap a session whose sequence may be up to `max_length`."""
        self._session = session
        self._max_length = max_length
        self._dtypes = {item.name: DTYPES[item.type] for item in session.get_inputs()}

    def run(self, inputs: Inputs) -> dict[str, NDArray[np.float32]]:
        """Compute logits fp32 [batch, labels]: int32 ids and mask [batch, n], padded only where lengths differ.

        Raises:
            InputError: an input is missing, of another type or shape, or longer than the artifact allows.
            ArtifactError: the model opened, and fails when it runs.
        """
        if set(inputs) != set(INPUTS):
            raise InputError(f"inputs are {sorted(inputs)}", expected=f"exactly {sorted(INPUTS)}")
        shape = inputs["input_ids"].shape
        for name, array in inputs.items():
            if array.dtype != np.int32 or array.shape != shape or len(shape) != 2 or shape[0] < 1:
                raise InputError(
                    f"'{name}' is {array.dtype} {list(array.shape)}", expected="int32 [batch, n], both alike"
                )
        if not 0 < shape[1] <= self._max_length:
            raise InputError(f"{shape[1]} tokens do not fit", expected=f"1 to {self._max_length}", next_step="truncate")
        feed = {name: inputs[name].astype(dtype, copy=False) for name, dtype in self._dtypes.items()}
        try:
            outputs = self._session.run(list(OUTPUTS), feed)
        except Exception as error:  # ONNX Runtime's exceptions share no other base
            first = first_line(error)
            raise ArtifactError(f"onnxruntime cannot run '{MODEL}': {first}", next_step="run `dvc repro`") from error
        return dict(zip(OUTPUTS, outputs, strict=True))


def open_runtime(artifact: Path, threads: int) -> OnnxRuntime:
    """Open an artifact directory for inference on `threads` cores.

    Raises:
        ArtifactError: the model or its signature is missing or damaged.
    """
    import onnxruntime

    signature = read_signature(artifact)
    path = artifact / MODEL
    if not path.is_file():
        raise ArtifactError(f"'{artifact}' has no {MODEL}", next_step="run `dvc repro`")
    onnxruntime.disable_telemetry_events()
    try:
        session = onnxruntime.InferenceSession(path, _options(threads), providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no other base
        first = first_line(error)
        raise ArtifactError(f"onnxruntime cannot open '{path}': {first}", next_step="run `dvc repro`") from error
    found = {item.name: item.type for item in session.get_inputs()}
    if set(found) != set(signature.inputs) or not set(found.values()) <= set(DTYPES):
        raise ArtifactError(f"'{path}' takes {found}", expected=f"integer inputs {signature.inputs}")
    return OnnxRuntime(session, signature.sequence_lengths[-1])


def _options(threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # Spinning threads burn the cores that the caller, or the next benchmark, needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
