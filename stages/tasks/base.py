"""What every task is said in: how an artifact is called, and the texts it is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from stages.core.params import Section

Arrays = Mapping[str, NDArray[Any]]
"""Tensors by name."""
State = Any
"""What calls leave for the next ones, as the runtime keeps it."""
BATCH, SEQUENCE, PAST = "batch", "sequence", "past"
"""Axes: the texts of one call, the tokens of each, and those of the calls before."""
IDS, MASK = "input_ids", "attention_mask"
INPUTS = (IDS, MASK)
"""What an encoder takes: token ids, and 1 where they are text; a split has arrays of the same names."""
GREEDY = "greedy.npz"
"""Texts that a checkpoint wrote on by itself, beside the reference's splits."""
FORWARD = "forward"
"""The call of an encoder."""
DECODE = "decode"
"""The call of a decoder: further tokens of a text, of which the last one's successor is told."""


class Tensor(Section):
    """An input, output or state of a call."""

    name: str
    """As the artifact calls it."""
    dtype: Literal["int32", "float32"]
    """As the caller gives or gets it, whatever the artifact holds inside."""
    axes: list[str | int]
    """Sizes, or names of sizes that vary: `batch`, `sequence`."""


class Call(Section):
    """One way to run an artifact: `forward` of an encoder, `prefill` and `decode` of a decoder."""

    name: str
    """As `Session.run` takes it."""
    inputs: list[Tensor]
    outputs: list[Tensor]
    states: list[Tensor]
    """What one call leaves for the next, such as a cache; empty where calls know nothing of each other."""

    @property
    def names(self) -> tuple[list[str], list[str]]:
        """Names of the inputs and of the outputs, in order."""
        return [tensor.name for tensor in self.inputs], [tensor.name for tensor in self.outputs]


def encoder(*outputs: Tensor) -> Call:
    """Return the call of an encoder that gives `outputs` for texts of any number and length."""
    inputs = [Tensor(name=name, dtype="int32", axes=[BATCH, SEQUENCE]) for name in INPUTS]
    return Call(name=FORWARD, inputs=inputs, outputs=list(outputs), states=[])


class Session(Protocol):
    """An opened artifact.

    Attributes:
        label: what executes, for example `litert-cpu-xnnpack`.
        batches: whether it takes several utterances at once.
    """

    label: str
    batches: bool

    def new_state(self) -> State | None:
        """Return an empty state for calls to pass on, None where the artifact keeps none."""
        ...

    def run(self, call: str, inputs: Arrays, state: State | None = None) -> Arrays:
        """Make one call.

        Args:
            call: one that the signature names.
            inputs: the call's, at their true length; axis `batch` is 1 without `batches`.
            state: of `new_state`, changed in place.

        Returns:
            The call's outputs, dequantised, without what was padded.

        Raises:
            InputError: there is no such call; an input is missing, of another type or shape, or too long.
            ArtifactError: the model opened, and fails when it runs.
        """
        ...


class Timed(NamedTuple):
    """A call to be timed.

    Attributes:
        call: its name.
        inputs: of the call.
        before: what the same call reads first, from an empty state and untimed; nothing where None.
        goes_on: whether it takes the state that the run before it left, and `before` was read then.
    """

    call: str
    inputs: Arrays
    before: Arrays | None = None
    goes_on: bool = False


class Primary(NamedTuple):
    """The metric that a task's models are chosen by; unit and direction are those of `measure.registry`.

    Attributes:
        metric: its name there.
        said: what a reader calls it, within a sentence.
        to_reference: metric of how much of it conversion cost.
        to_teacher: metric of how much of it all steps together cost.
        bar: metric of the honesty bar, where that cannot be had in the other: a 5-gram over bytes knows no tokens.
        kept: metric of the share of it that is left of the teacher's, empty where a share says nothing.
        on_validation: metric of the same of a student before compression, on the split that may choose one.
        over_bar: metric of how much of it there is beyond the honesty bar's, empty where an artifact's is in another.
    """

    metric: str
    said: str
    to_reference: str
    to_teacher: str
    bar: str = ""
    kept: str = ""
    on_validation: str = ""
    over_bar: str = ""

    @property
    def of_bar(self) -> str:
        """Return the metric of the honesty bar."""
        return self.bar or self.metric


def utterances(split: Arrays) -> Iterator[dict[str, NDArray[np.int32]]]:
    """Yield the inputs of each utterance alone, int32 [1, n] at its true length, as an app would pass them.

    Args:
        split: `input_ids` and `attention_mask` [utterances, max_length], right-padded; other arrays are not read.
    """
    for row, length in enumerate(split[MASK].sum(axis=1)):
        yield {name: split[name][row : row + 1, : int(length)].astype(np.int32, copy=False) for name in INPUTS}
