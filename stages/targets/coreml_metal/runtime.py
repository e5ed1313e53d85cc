"""Run a `model.mlpackage`: with Core ML on macOS, elsewhere with the reference executor, which says so in its label."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError, Unsupported
from stages.coreml import open_program
from stages.coreml.executor import Mode
from stages.targets.base import Opened, Signature, read_signature, require_room
from stages.targets.coreml_metal import INTERPRETED, POSITION, UNROUNDED, ComputeUnits, native
from stages.targets.executing import loaded
from stages.tasks.base import IDS, Arrays, Call, State

PACKAGE = "model.mlpackage"
OLDEST_MACOS = 13
"""First one whose Core ML takes ML programs of iOS16 and lets the Neural Engine be chosen."""
MACOS_OF_SPECIFICATION = {7: 13, 8: 14, 9: 15}
"""Specification version (iOS16, iOS17, iOS18) → first macOS that runs it."""


def available() -> str | None:
    """Return None: the reference executor runs the artifact on every host."""
    return None


def coreml_unavailable() -> str | None:
    """Return None where Core ML itself runs, else the reason it cannot run here."""
    system = {"Darwin": "macOS"}.get(platform.system(), platform.system())
    if system != "macOS":
        return f"Core ML runs on macOS only; this host is {system}"
    if _macos() < OLDEST_MACOS:
        return f"Core ML programs need macOS {OLDEST_MACOS}; this host has {platform.mac_ver()[0]}"
    # Asked of the file system: importing coremltools to ask it takes seconds.
    found = util.find_spec("coremltools")
    folders = found.submodule_search_locations if found else None
    if not any(next(Path(folder).glob("libcoremlpython*.so"), None) for folder in folders or []):
        return "coremltools is not installed, or without libcoremlpython"
    return None


def timing_unavailable() -> str | None:
    """Return None where a latency measured here means something: the reference executor's says nothing of a phone."""
    return coreml_unavailable()


def versions() -> dict[str, str]:
    """Return what executes artifacts here, as it says of itself: distribution → version; Core ML is part of macOS."""
    if coreml_unavailable():
        return {"numpy": loaded("numpy", "numpy")}
    return {"coremltools": loaded("coremltools", "coremltools"), "macOS": platform.mac_ver()[0]}


def saturation(artifact: Path, split: Mapping[str, NDArray[np.int32]]) -> dict[str, int]:  # noqa: ARG001
    """Return nothing: no kernel that runs it is known to clip on some CPUs and not on others."""
    return {}


def open_runtime(
    artifact: Path,
    threads: int,  # noqa: ARG001
    units: ComputeUnits = "ALL",
) -> Opened:
    """Open an artifact directory for inference, with Core ML where it is to be had.

    The reference executor, every value rounded to its declared type, checks the artifact and not Apple's runtime:
    fused kernels, fp16 accumulation and placement are Core ML's own.

    Args:
        artifact: output of `quantize`.
        threads: unused: neither Core ML nor the executor has such a setting.
        units: processors Core ML may choose from.

    Raises:
        Unsupported: this macOS is too old for the program's deployment target.
        ArtifactError: the package or its signature is missing or damaged.
    """
    signature = read_signature(artifact)
    if not (artifact / PACKAGE).is_dir():
        raise ArtifactError(f"'{artifact}' has no {PACKAGE}", next_step="run `dvc repro`")
    if coreml_unavailable():
        program = open_program(artifact / PACKAGE)
        mode: Mode = "exact" if (artifact / UNROUNDED).is_file() else "declared"
        return _opened(INTERPRETED.label, signature, partial(program.run, mode=mode), program.make_state)
    model = _load(artifact / PACKAGE, units)
    return _opened(native(units).label, signature, model.predict, model.make_state)


@dataclass
class Cache:
    """Keys and values of the tokens so far.

    Attributes:
        held: what Core ML, or the executor, writes them into.
        room: how many tokens there may be.
        length: tokens so far.
    """

    held: Any
    room: int
    length: int = 0


def _opened(label: str, signature: Signature, run: Callable[..., Any], make_state: Callable[[], Any]) -> Opened:
    if not any(call.states for call in signature.calls):
        return Opened(label, signature, _execute(run))
    room = signature.sequence_lengths[-1]
    return Opened(label, signature, _continue(run), make_state=lambda: Cache(make_state(), room))


def _continue(run: Callable[..., Any]) -> Callable[[Call, Arrays, State], Arrays]:
    def execute(call: Call, inputs: Arrays, state: State) -> Arrays:
        more = inputs[IDS].shape[1]
        require_room(state.length, more, state.room)
        given = {IDS: inputs[IDS], POSITION: np.asarray([state.length], np.int32)}
        outputs = run(given, state=state.held)
        state.length += more
        return {tensor.name: np.asarray(outputs[tensor.name], tensor.dtype) for tensor in call.outputs}

    return execute


def _execute(run: Callable[..., Any]) -> Callable[[Call, Arrays, State], Arrays]:
    def execute(call: Call, inputs: Arrays, state: State) -> Arrays:  # noqa: ARG001 (no call keeps any)
        outputs = run(inputs)
        return {tensor.name: np.asarray(outputs[tensor.name], tensor.dtype) for tensor in call.outputs}

    return execute


def _load(package: Path, units: ComputeUnits) -> Any:
    from stages.targets.coreml_metal import toolchain

    ct = toolchain.load()
    version = ct.utils.load_spec(str(package)).specificationVersion
    needed = MACOS_OF_SPECIFICATION.get(version, max(MACOS_OF_SPECIFICATION.values()))
    if _macos() < needed:
        # Core ML would not be asked: coremltools opens such a model without a word and fails at the first predict.
        raise Unsupported(f"'{package}' needs macOS {needed}; this host has {platform.mac_ver()[0]}")
    try:
        return ct.models.MLModel(str(package), compute_units=ct.ComputeUnit[units])
    except RuntimeError as error:
        first = (str(error).strip().splitlines() or ["unknown reason"])[0]
        raise ArtifactError(f"Core ML cannot open '{package}': {first}", next_step="run `dvc repro`") from error


def _macos() -> int:
    return int(platform.mac_ver()[0].partition(".")[0] or 0)
