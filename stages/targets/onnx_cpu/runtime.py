"""Run a `model.onnx` with ONNX Runtime's CPU kernels, at the true length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError, first_line
from stages.targets.base import Opened, read_signature, require_room
from stages.targets.executing import loaded
from stages.targets.onnx_cpu import ORT
from stages.targets.onnx_cpu.graph import MODEL, following
from stages.tasks.base import IDS, MASK, PAST, Arrays, Call, State, Tensor

DTYPES = {"tensor(int32)": np.int32, "tensor(int64)": np.int64, "tensor(float)": np.float32}
TAKEN = {"int32": ("tensor(int32)", "tensor(int64)"), "float32": ("tensor(float)",)}
"""What a caller gives → what the graph may take for it."""


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


def open_runtime(artifact: Path, threads: int) -> Opened:
    """Open an artifact directory for inference on `threads` cores; never padded; any number of texts without states.

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
    for call in signature.calls:
        names = {tensor.name: tensor.dtype for tensor in (*call.inputs, *call.states)}
        names |= {MASK: "int32"} if call.states else {}
        if found.keys() != names.keys() or any(kind not in TAKEN[names[name]] for name, kind in found.items()):
            raise ArtifactError(f"'{path}' takes {found}", expected=f"{names} of call '{call.name}'")
    states = [tensor for call in signature.calls for tensor in call.states]
    if states:
        room = signature.sequence_lengths[-1]
        return Opened(ORT, signature, _continue, make_state=lambda: Cache(session, states, room))
    return Opened(ORT, signature, _execute(session), batches=True)


def _execute(session: Any) -> Callable[[Call, Arrays, State], Arrays]:
    dtypes = {item.name: DTYPES[item.type] for item in session.get_inputs()}

    def execute(call: Call, inputs: Arrays, state: State) -> Arrays:  # noqa: ARG001 (no call keeps any)
        names = [tensor.name for tensor in call.outputs]
        feed = {name: inputs[name].astype(dtype, copy=False) for name, dtype in dtypes.items()}
        try:
            return dict(zip(names, session.run(names, feed), strict=True))
        except Exception as error:  # ONNX Runtime's exceptions share no other base
            first = first_line(error)
            raise ArtifactError(f"onnxruntime cannot run '{MODEL}': {first}", next_step="run `dvc repro`") from error

    return execute


PIECE = 128
"""Tokens that are read at once, as the bundle's sample does: attention scores every pair of them, for each head, which
for 1,024 at once took 60 MB more and a sixth of the prompt's time (SmolLM2)."""


class Cache:
    """Keys and values of the tokens so far, in buffers that the runtime reads and writes in place.

    Attributes:
        length: tokens so far.
        room: how many there may be.
    """

    def __init__(self, session: Any, states: Sequence[Tensor], room: int) -> None:
        """Make room for one text.

        Args:
            session: of ONNX Runtime; its outputs `present.…` are the next `past_key_values.…`.
            states: of the call.
            room: tokens to make room for.
        """
        import onnxruntime

        self.length, self.room, self._session = 0, room, session
        self._bound = session.io_binding()
        for tensor in states:
            shape = [room if axis == PAST else int(axis) for axis in tensor.axes]
            buffer = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, tensor.dtype))
            self._bound.bind_ortvalue_input(tensor.name, buffer)
            self._bound.bind_ortvalue_output(following(tensor.name), buffer)

    def step(self, ids: NDArray[np.int32], names: Sequence[str]) -> list[NDArray[np.float32]]:
        """Read further tokens, int32 [1, n], and return the named outputs."""
        for name in names:
            self._bound.bind_output(name)
        for start in range(0, ids.shape[1], PIECE):
            piece = ids[:, start : start + PIECE]
            self.length += piece.shape[1]
            self._bound.bind_cpu_input(IDS, piece.astype(np.int64))
            self._bound.bind_cpu_input(MASK, np.ones((1, self.length), np.int64))
            self._session.run_with_iobinding(self._bound)
        return [value.numpy() for value in self._bound.get_outputs()[-len(names) :]]


def _continue(call: Call, inputs: Arrays, state: State) -> Arrays:
    ids, names = inputs[IDS], call.names[1]
    require_room(state.length, ids.shape[1], state.room)
    try:
        return dict(zip(names, state.step(ids, names), strict=True))
    except Exception as error:  # ONNX Runtime's exceptions share no other base
        first = first_line(error)
        raise ArtifactError(f"onnxruntime cannot run '{MODEL}': {first}", next_step="run `dvc repro`") from error


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
