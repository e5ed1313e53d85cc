"""Run a decoder's `model.tflite` with LiteRT: a text in as few calls as its signatures allow, one state for all.

Keys and values lie in buffers that calls read and write in place, as LiteRT-LM binds them; an `Interpreter` copies all
of them into each call and out again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError, first_line
from stages.core.process import quiet
from stages.targets.base import Opened, Signature, require_room
from stages.targets.tflite_nnapi import LITERT
from stages.targets.tflite_nnapi.entries import PLACES, TOKENS, entries, prefill_name
from stages.tasks.base import DECODE, IDS, Arrays, Call

FASTER = 4
"""Reading N tokens in one call takes no longer than reading a token N / FASTER times; more on every model tried."""

SHARED = ":memory"
"""XNNPACK's name for a place in memory where it keeps weights as its kernels want them, once for all signatures: each
has them to itself otherwise."""


class Cache:
    """Keys and values of the tokens so far.

    Attributes:
        length: tokens so far.
        buffers: of the runtime, by name.
    """

    def __init__(self, model: Any, names: Sequence[str]) -> None:
        """Make room for one text.

        Args:
            model: LiteRT's `CompiledModel`.
            names: of the states.
        """
        self.length = 0
        self.buffers = {name: model.create_input_buffer_by_name(DECODE, name) for name in names}
        for buffer in self.buffers.values():  # weights of 0 do not make numbers of what memory may hold
            buffer.write(np.zeros(buffer.get_tensor_details()["shape"], np.float32))


class Stepper:
    """A compiled file, its signatures as they are needed."""

    def __init__(self, model: Any, signature: Signature) -> None:
        """Take the file.

        Args:
            model: LiteRT's `CompiledModel`.
            signature: of the artifact.
        """
        self._model, self._signature = model, signature
        self._calls: dict[str, _Signed] = {}

    def new_state(self) -> Cache:
        """Make room for one text."""
        return Cache(self._model, [tensor.name for call in self._signature.calls for tensor in call.states])

    def execute(self, call: Call, inputs: Arrays, state: Any) -> Arrays:
        """Read further tokens of a text, int32 [1, n], and return what the call does."""
        ids, lengths = inputs[IDS][0], self._signature.sequence_lengths
        require_room(state.length, len(ids), lengths[-1])
        try:
            at = 0
            for size, count in calls(len(ids), state.length, lengths):
                part, place = ids[at : at + count], state.length
                signed = self._signed(DECODE if size == 1 else prefill_name(size))
                signed.run(np.pad(part, (0, size - count)), np.arange(place, place + size, dtype=np.int32), state)
                state.length, at = place + count, at + count
            return {one.name: self._calls[DECODE].answer(one.name) for one in call.outputs}
        except (RuntimeError, ValueError) as error:
            raise ArtifactError(f"LiteRT cannot run the model: {first_line(error)}", next_step="run `dvc repro`") from (
                error
            )

    def _signed(self, name: str) -> _Signed:
        if name not in self._calls:
            self._calls[name] = _Signed(self._model, name)
        return self._calls[name]


class _Signed:
    """A signature and the buffers of its own."""

    def __init__(self, model: Any, name: str) -> None:
        self._model, self._index = model, model.get_signature_index(name)
        signed = model.get_signature_by_index(self._index)
        self._inputs, self._outputs = signed["inputs"], signed["outputs"]
        self._own = {key: model.create_input_buffer_by_name(name, key) for key in (TOKENS, PLACES)}
        answers = set(self._outputs) - set(self._inputs)
        self._answers = {key: model.create_output_buffer_by_name(name, key) for key in answers}
        self._shapes = {key: buffer.get_tensor_details()["shape"] for key, buffer in self._answers.items()}

    def run(self, tokens: NDArray[np.int32], places: NDArray[np.int32], state: Cache) -> None:
        self._own[TOKENS].write(tokens)
        self._own[PLACES].write(places)
        buffers = {**state.buffers, **self._own, **self._answers}
        given, made = ([buffers[name] for name in role] for role in (self._inputs, self._outputs))
        self._model.run_by_index(self._index, given, made)

    def answer(self, name: str) -> NDArray[np.float32]:
        shape = self._shapes[name]
        found = self._answers[name].read(int(np.prod(shape)), np.float32)
        return np.asarray(found, np.float32).reshape(shape)


def calls(count: int, at: int, lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Say in which calls to read a text: yields the tokens that a signature takes, and how many of them are the text's.

    What stands behind these is overwritten by the tokens that follow, and not looked at before. The last token is read
    alone: no other signature answers.

    Args:
        count: tokens to read.
        at: tokens before them.
        lengths: ascending, of the signatures that read several; the last one is the room for all.
    """
    left = count
    while left > 1:
        fitting = [length for length in lengths if at + length <= lengths[-1]]
        full = [length for length in fitting if length < left]
        enough = [length for length in fitting if length >= left - 1 and length <= FASTER * (left - 1)]
        size = enough[0] if enough else full[-1] if full else 1
        read = min(size, left - 1)
        yield size, read
        left, at = left - read, at + read
    yield 1, 1


def _compiled(path: Path, threads: int) -> Any:
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.cpu_options import CpuOptions
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator
    from ai_edge_litert.options import Options

    cpu = CpuOptions(num_threads=threads, xnnpack_weight_cache_path=SHARED)
    with quiet(Path(os.devnull)):  # of accelerators that are not asked for
        return CompiledModel.from_file(
            str(path), options=Options(hardware_accelerators=HardwareAccelerator.CPU, cpu_options=cpu)
        )


def answers(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """Run each signature of a file once, of inputs that are all 0, and yield what it gives, by name.

    Raises:
        ArtifactError: LiteRT refuses the file, or cannot run it.
    """
    try:
        model = _compiled(path, 1)
        for name, signed in model.get_signature_list().items():
            given = {key: model.create_input_buffer_by_name(name, key) for key in signed["inputs"]}
            with quiet(Path(os.devnull)):  # the first buffer looks for accelerators again
                for buffer in given.values():
                    told = buffer.get_tensor_details()
                    buffer.write(np.zeros(told["shape"], told["dtype"]))
            made = {key: model.create_output_buffer_by_name(name, key) for key in signed["outputs"]}
            model.run_by_index(model.get_signature_index(name), list(given.values()), list(made.values()))
            for key, buffer in made.items():
                yield key, buffer.read(int(np.prod(buffer.get_tensor_details()["shape"])), np.float32)
    except (RuntimeError, ValueError) as error:
        raise ArtifactError(f"LiteRT cannot run the model: {first_line(error)}", next_step="run `dvc repro`") from error


def open_decoder(path: Path, signature: Signature, threads: int) -> Opened:
    """Open a file for inference on `threads` cores.

    Raises:
        ArtifactError: LiteRT refuses it, or it has other signatures than the artifact's calls need.
    """
    try:
        model = _compiled(path, threads)
        with quiet(Path(os.devnull)):
            model.create_input_buffer_by_name(DECODE, TOKENS).write(np.zeros(1, np.int32))
    except (RuntimeError, ValueError) as error:
        first = first_line(error)
        raise ArtifactError(f"LiteRT cannot open '{path}': {first}", next_step="run `dvc repro`") from error
    found = {key: (set(one["inputs"]), set(one["outputs"])) for key, one in model.get_signature_list().items()}
    expected = {key: (set(given), set(made)) for key, (given, made) in entries(signature).items()}
    if found != expected:
        raise ArtifactError(f"'{path}' has signatures {found}", expected=f"{expected}")
    stepper = Stepper(model, signature)
    return Opened(LITERT, signature, stepper.execute, make_state=stepper.new_state)
