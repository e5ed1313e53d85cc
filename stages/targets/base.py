"""What every target shares: an opened artifact, and the signature that lies beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact
from stages.core.errors import ArtifactError, ConfigError, InputError, Unsupported
from stages.core.params import Section, parse
from stages.tasks.base import BATCH, IDS, SEQUENCE, Arrays, Call, State, Tensor, encoder
from stages.tasks.base import Session as Session

if TYPE_CHECKING:
    from stages.schema.task import Task

SIGNATURE = "signature.json"
QUANTIZATION = "quantization.json"
"""Beside an artifact: what was asked of its weights, and what became of them."""

Inputs = Mapping[str, NDArray[np.int32]]
DTYPES = {name: np.dtype(name) for name in ("int32", "float32")}


class Tokens(Section):
    """Ids that a caller needs."""

    pad: int | None
    """None where nothing is padded: of a decoder."""

    @property
    def filler(self) -> int:
        """Return the id that arrays of ids are filled up with, any where none is padded."""
        return self.pad or 0


class Signature(Section):
    """How an artifact is called; `signature.json`."""

    task: str
    calls: list[Call]
    sequence_lengths: list[int]
    """Ascending lengths the artifact was built for."""
    dynamic: bool
    """Whether any length up to the last of `sequence_lengths` runs without padding."""
    tokens: Tokens

    def call(self, name: str) -> Call:
        """Find a call.

        Raises:
            InputError: there is none of this name.
        """
        for call in self.calls:
            if call.name == name:
                return call
        known = ", ".join(call.name for call in self.calls)
        raise InputError(f"the artifact has no call '{name}'", expected=f"one of: {known}")

    def padded(self, call: str, inputs: Arrays, lengths: Sequence[int] = ()) -> dict[str, NDArray[Any]]:
        """Check the inputs of a call, and pad them on the right to the smallest length that holds them.

        Args:
            call: one of `calls`.
            inputs: its inputs.
            lengths: to choose from in place of `sequence_lengths`.

        Returns:
            The same arrays; ids are filled with the padding, all others with 0.

        Raises:
            InputError: inputs are missing or of another type or shape, or no length holds them.
        """
        asked, lengths = self.call(call), lengths or self.sequence_lengths
        return self.filled(asked, inputs, checked(asked, inputs, max(lengths)), lengths)

    def filled(
        self, call: Call, inputs: Arrays, sizes: Mapping[str, int], lengths: Sequence[int]
    ) -> dict[str, NDArray[Any]]:
        """Pad what `checked` has found to be of these sizes, as `padded` does."""
        tokens = sizes.get(SEQUENCE)
        if tokens is None or tokens in lengths:
            return dict(inputs)
        more = min(length for length in lengths if length > tokens) - tokens
        return {
            tensor.name: np.pad(
                inputs[tensor.name],
                [(0, more if axis == SEQUENCE else 0) for axis in tensor.axes],
                constant_values=self.tokens.filler if tensor.name == IDS else 0,
            )
            for tensor in call.inputs
        }


class Opened:
    """A session: checks and pads inputs, lets `execute` compute, and cuts the padding off.

    Attributes:
        label: what executes.
        batches: whether it takes several utterances at once.
    """

    label: str
    batches: bool

    def __init__(
        self,
        label: str,
        signature: Signature,
        execute: Callable[[Call, Arrays, State | None], Arrays],
        *,
        batches: bool = False,
        make_state: Callable[[], State] | None = None,
    ) -> None:
        """Wrap a loaded artifact.

        Args:
            label: what executes.
            signature: how it is called.
            execute: computes a call on inputs of a length that the artifact takes: its outputs, dequantised.
            batches: whether `execute` takes several utterances at once.
            make_state: makes an empty state.

        Raises:
            Unsupported: calls keep states, and there is none to be had.
        """
        self.label, self.batches = label, batches
        self._signature, self._execute, self._make_state = signature, execute, make_state
        self._keeps = any(call.states for call in signature.calls)
        if self._keeps and make_state is None:
            raise Unsupported(f"{label} cannot run calls that keep states", next_step="build for another target")

    def new_state(self) -> State | None:
        """Return an empty state for calls to pass on, None where the artifact keeps none."""
        return self._make_state() if self._keeps and self._make_state else None

    def run(self, call: str, inputs: Arrays, state: State | None = None) -> Arrays:
        """Make one call: see `Session.run`."""
        asked, lengths = self._signature.call(call), self._signature.sequence_lengths
        sizes = checked(asked, inputs, lengths[-1])
        if not self._signature.dynamic:
            inputs = self._signature.filled(asked, inputs, sizes, lengths)
        outputs = self._execute(asked, inputs, state)
        return {one.name: _cut(outputs[one.name], one.axes, sizes) for one in asked.outputs}


def _cut(values: NDArray[Any], axes: Sequence[str | int], sizes: Mapping[str, int]) -> NDArray[Any]:
    if SEQUENCE not in axes:
        return values
    return values[tuple(slice(sizes[axis] if axis == SEQUENCE else None) for axis in axes)]


def example(call: Call, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Return inputs to trace a module with, torch tensors of ones.

    A tensor each: what is given twice counts as one input, and the graph then looks up the mask.

    Args:
        call: what the module computes.
        sizes: named axis → size.
    """
    import torch

    return {
        tensor.name: torch.ones(
            [axis if isinstance(axis, int) else sizes[axis] for axis in tensor.axes], dtype=getattr(torch, tensor.dtype)
        )
        for tensor in call.inputs
    }


def checked(call: Call, inputs: Arrays, longest: int) -> dict[str, int]:
    """Check the inputs of a call.

    Args:
        call: names them and their axes.
        inputs: what was given.
        longest: tokens that axis `sequence` may have.

    Returns:
        Named axis → size.

    Raises:
        InputError: one is missing, of another type or shape, or too long.
    """
    if inputs.keys() != {tensor.name for tensor in call.inputs}:
        raise InputError(f"inputs are {sorted(inputs)}", expected=f"exactly {sorted(call.names[0])}")
    sizes: dict[str, int] = {}
    for tensor in call.inputs:  # plainly: this is part of every latency
        array, axes = inputs[tensor.name], tensor.axes
        shape = array.shape
        fits = array.dtype == DTYPES[tensor.dtype] and len(shape) == len(axes)
        for at, size in enumerate(shape if fits else ()):
            axis = axes[at]
            if not size or size != (axis if isinstance(axis, int) else sizes.setdefault(axis, size)):
                fits = False
        if not fits:
            said = ", ".join(map(str, axes))
            raise InputError(
                f"'{tensor.name}' is {array.dtype} {list(shape)}",
                expected=f"{tensor.dtype} [{said}], of one size in all inputs",
            )
    if sizes.get(SEQUENCE, 0) > longest:
        raise InputError(f"{sizes[SEQUENCE]} tokens do not fit", expected=f"at most {longest}", next_step="truncate")
    return sizes


def require_room(before: int, more: int, room: int) -> None:
    """Refuse tokens that a state has no room for.

    Args:
        before: tokens that the state holds.
        more: tokens to read.
        room: tokens that it may hold.

    Raises:
        InputError: they are too many.
    """
    if before + more > room:
        raise InputError(
            f"{more} tokens do not fit behind {before}",
            expected=f"at most {room} in all",
            next_step="begin a new state with the end of the text",
        )


def only(calls: Sequence[Call]) -> Call:
    """Return the one call of a model.

    Raises:
        Unsupported: it has several, or one that keeps states.
    """
    if len(calls) != 1 or calls[0].states:
        said = ", ".join(call.name for call in calls)
        raise Unsupported(
            f"no module can be traced that is called by {said}, with what earlier calls left",
            expected="one call, which knows nothing of others",
            next_step="describe it as a Decoder (stages/models/families/decoder.py)",
        )
    return calls[0]


def one_by_one(call: Call) -> Call:
    """Return a call as an artifact has it that takes one utterance at a time."""
    roles = ("inputs", "outputs", "states")
    return call.model_copy(update={role: [_alone(tensor) for tensor in getattr(call, role)] for role in roles})


def _alone(tensor: Tensor) -> Tensor:
    return tensor.model_copy(update={"axes": [1 if axis == BATCH else axis for axis in tensor.axes]})


def write_signature(
    directory: Path, task: Task, calls: Sequence[Call], *, dynamic: bool, pad_token_id: int | None
) -> None:
    """Write `signature.json` into `directory`."""
    signature = Signature(
        task=task.name,
        calls=list(calls),
        sequence_lengths=task.sequence_lengths,
        dynamic=dynamic,
        tokens=Tokens(pad=pad_token_id),
    )
    artifact.write_json(directory / SIGNATURE, signature.model_dump())


def read_signature(directory: Path) -> Signature:
    """Read the signature of an artifact, also one of a release before there were tasks.

    Raises:
        ArtifactError: it is missing or does not have the expected keys.
    """
    path = directory / SIGNATURE
    try:
        found = artifact.read_json(path)
        return _of_first(parse(_First, found, str(path))) if "inputs" in found else parse(Signature, found, str(path))
    except ConfigError as error:
        raise ArtifactError(f"'{path}' is not a signature: {error}", next_step="run `dvc repro`") from error


class _First(Section):
    """The first version of `signature.json`, all of classifiers; bundles of earlier releases hold it."""

    inputs: list[str]
    outputs: list[str]
    sequence_lengths: list[int]
    dynamic: bool
    pad_token_id: int


def _of_first(found: _First) -> Signature:
    call = encoder(*(Tensor(name=name, dtype="float32", axes=[BATCH, "classes"]) for name in found.outputs))
    return Signature(
        task="classify",
        calls=[call if found.dynamic else one_by_one(call)],
        sequence_lengths=found.sequence_lengths,
        dynamic=found.dynamic,
        tokens=Tokens(pad=found.pad_token_id),
    )
