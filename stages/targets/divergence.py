"""Name the first layer at which failing artifacts depart from their checkpoints, in a process of its own.

Reads: artifacts, their checkpoints, references and measured outputs.
Writes: one JSON file per artifact.
Why: it runs broken artifacts beside torch; neither a crash nor torch's memory may reach the gate.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.core import artifact, cli
from stages.core.errors import TinsmithError, first_line
from stages.measure import items
from stages.targets import registry
from stages.targets.base import Inputs, Signature, read_signature
from stages.tasks.base import INPUTS

if TYPE_CHECKING:
    from stages.models.trail import Bands, Step, Trail

UTTERANCES = 2
"""Those whose logits are furthest off; each is run as an app would, and padded to the longest length."""
TIMEOUT_S = 300
MATRIX_BANDS = {8: 0.1, 16: 1e-2, 32: 1e-4}
"""Bits of the weights → largest relative error of a sound layer that holds a matrix, without int8 activations.
docs/divergence.md has what the variants of the default build were measured at: a half of it or less."""
COARSE_BAND = 0.4
"""Of fewer than 8 bits."""
HALF_BAND = 1e-2
"""Of layers without a matrix, where activations may be fp16."""
STATIC_BANDS = 0.2, 0.3
"""With int8 activations: products also clip, and an attention is two of them and a softmax."""


@dataclass(frozen=True)
class Case:
    """A failing artifact and what it should have been.

    Attributes:
        target: its platform.
        artifact: output of `quantize`.
        checkpoint: output of `compress`.
        reference: output of `reference`.
        parity: output of `parity`.
    """

    target: str
    artifact: Path
    checkpoint: Path
    reference: Path
    parity: Path


def locate(cases: Mapping[str, Case]) -> dict[str, dict[str, Any]]:
    """Find where artifacts diverge, one after another in a child process.

    Args:
        cases: by variant.

    Returns:
        By variant `conclusion`, one line, and what `examine` found. An artifact that brings the process down, or
        does not finish, is said to.
    """
    found: dict[str, dict[str, Any]] = {}
    waiting = dict(sorted(cases.items()))  # as the child reads them
    with tempfile.TemporaryDirectory() as scratch:
        while waiting:
            ended = _run_child(waiting, Path(scratch))
            for key in list(waiting):
                if (Path(scratch) / f"{key}.json").is_file():
                    found[key] = artifact.read_json(Path(scratch) / f"{key}.json")
                    del waiting[key]
            if waiting:
                key = next(iter(waiting))
                del waiting[key]
                found[key] = {"conclusion": f"first divergence not located: {ended}"}
    return found


def _run_child(cases: Mapping[str, Case], out: Path) -> str:
    """Run the cases, and say how the process ended."""
    request = out / "request"
    fields = {key: {name: str(value) for name, value in vars(case).items()} for key, case in cases.items()}
    artifact.write_json(request, fields)
    command = [sys.executable, "-m", __spec__.name, "--request", str(request), "--out", str(out)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"no end after {TIMEOUT_S} s"
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return f"the process ended with {done.returncode}: {last}"


def examine(case: Case) -> dict[str, Any]:
    """Follow an artifact on its worst utterances.

    Returns:
        `conclusion`; with a divergence also `module`, `operator`, `tensor`, `error` (None where not finite), `band`,
        `before` (module and error of the last layer in its band), `exchanged`, `operators` since then, `input`.
    """
    # What cannot be read or run says so before torch is imported.
    precision = artifact.read_json(case.artifact / "quantization.json")["asked"]
    intermediates = registry.intermediates(case.target).intermediates
    runs = [(origin, inputs, list(intermediates(case.artifact, inputs))) for origin, inputs in worst_inputs(case)]
    session = registry.runtime(case.target).open_runtime(case.artifact, threads=1)
    (call,) = read_signature(case.artifact).calls

    from stages.models import checkpoint, divergence
    from stages.models.trail import Tensor

    bands, model = bands_of(precision), checkpoint.load_model(case.checkpoint)
    trails: list[tuple[Trail, dict[str, Any]]] = []
    unfused = 0.0
    for origin, inputs, found in runs:
        tensors = [Tensor(*item) for item in found]
        trails.append((divergence.follow(model, inputs, tensors, bands), origin))
        asked = {tensor.name: inputs[tensor.name] for tensor in call.inputs}
        logits = session.run(call.name, asked, session.new_state())["logits"]
        flat = logits.reshape(-1, logits.shape[-1])
        alone = next(item.value for item in reversed(tensors) if item.value.shape[-1:] == flat.shape[-1:])
        # What kept the logits of every token is asked for the last ones.
        unfused = max(unfused, divergence.relative_error(alone.reshape(-1, flat.shape[1])[-len(flat) :], flat))
    diverging = [(trail, origin) for trail, origin in trails if trail.divergence]
    if not diverging:
        return {"conclusion": _unexplained([trail for trail, _ in trails], unfused, bands)}
    # Steps are the same on every input: the fewer before it, the earlier a divergence.
    trail, origin = min(diverging, key=lambda pair: _place(pair[0]))
    return _described(trail, origin)


def bands_of(asked: Mapping[str, Any]) -> Bands:
    """Choose the bands of a precision.

    Args:
        asked: as in `quantization.json`.
    """
    from stages.models.trail import Bands

    if asked["kind"] == "mixed":
        return bands_of(asked["low"])
    if asked["kind"] == "static":
        return Bands(*STATIC_BANDS)
    bits = int(asked.get("bits") or asked["weight_bits"])
    matrix = MATRIX_BANDS.get(bits, COARSE_BAND)
    return Bands(matrix, min(matrix, HALF_BAND))


def worst_inputs(case: Case) -> Iterator[tuple[dict[str, Any], Inputs]]:
    """Yield the utterances whose logits are furthest off, each in the forms it may come in.

    Padding takes part, since a mask that is ignored changes nothing without any.
    """
    signature = read_signature(case.artifact)
    (call,) = signature.calls
    splits = {path.stem: artifact.read_arrays(path) for path in sorted(case.reference.glob("*.npz"))}
    errors = {name: _worst(record) for name, record in items.read(case.parity).items()}
    # What could not be run has no answers; any utterance will do.
    errors = errors or {"probe": dict.fromkeys(range(len(splits["probe"]["input_ids"])), 0.0)}
    ranked = sorted((-error, name, row) for name, found in errors.items() for row, error in found.items())
    for _, name, row in ranked[:UTTERANCES]:
        size = int(splits[name]["attention_mask"][row].sum())
        inputs = {key: splits[name][key][row : row + 1, :size] for key in INPUTS}
        for length in _lengths(signature, size):
            padded = inputs if call.states else signature.padded(call.name, inputs, [length])
            yield {"length": length, "row": row, "split": name}, padded


def _worst(record: items.Record) -> dict[int, float]:
    """Return the largest error of each text."""
    errors = dict[int, float]()
    for case, error in zip(record.case.tolist(), record.max_abs_error.tolist(), strict=True):
        errors[case] = max(errors.get(case, 0.0), error)
    return errors


def _lengths(signature: Signature, size: int) -> list[int]:
    if any(call.states for call in signature.calls):  # which take no padding
        return [size]
    smallest = size if signature.dynamic else min(one for one in signature.sequence_lengths if one >= size)
    return sorted({smallest, signature.sequence_lengths[-1]})


def _place(trail: Trail) -> int:
    assert trail.divergence is not None
    return trail.steps.index(trail.divergence.at)


def _described(trail: Trail, origin: dict[str, Any]) -> dict[str, Any]:
    found = trail.divergence
    assert found is not None
    at, before = found.at, found.before
    module = " and ".join(found.exchanged) + " exchanged" if found.exchanged else at.module
    place = f"{at.operator} '{at.tensor}'" if at.operator else "no tensor of its size"
    earlier = f"relative error {before.error:.2g} before" if before else "nothing before it"
    error = f"{at.error:.2g}" if np.isfinite(at.error) else "infinite"
    return {
        "band": at.band,
        "before": {"error": before.error, "module": before.module} if before else None,
        "conclusion": f"first divergence: {module} ({place}), {earlier}, {error} after",
        "error": at.error if np.isfinite(at.error) else None,
        "exchanged": list(found.exchanged),
        "input": origin,
        "module": found.module,
        "operator": at.operator,
        "operators": list(found.operators),
        "tensor": at.tensor,
    }


def _unexplained(trails: Sequence[Trail], unfused: float, bands: Bands) -> str:
    """Say that every layer is in its band, and what else it may be."""
    if unfused > bands.rest:
        return (
            "no layer leaves its band where operators run one by one, and their logits differ from the runtime's by a "
            f"relative error of {unfused:.2g}: see the runtime's fused kernels"
        )
    steps: list[Step] = [step for trail in trails for step in trail.steps if step.within]
    closest = max(steps, key=lambda step: step.error / step.band)
    return (
        f"no layer leaves its band on the {UTTERANCES} worst utterances (closest: {closest.module}, relative error "
        f"{closest.error:.2g} of {closest.band:.2g}): see the comparison of weights"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("request", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)

    def body(arguments: argparse.Namespace) -> None:
        for key, fields in artifact.read_json(arguments.request).items():
            paths = {name: Path(value) for name, value in fields.items() if name != "target"}
            try:
                found = examine(Case(target=fields["target"], **paths))
            except TinsmithError as error:
                found = {"conclusion": f"first divergence not located: {first_line(error)}"}
            artifact.write_json(arguments.out / f"{key}.json", found)

    return cli.execute(parser, argv, body)


if __name__ == "__main__":
    sys.exit(main())
