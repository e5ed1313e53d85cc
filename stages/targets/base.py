"""What every target shares: how a runtime looks, and the signature that lies beside an artifact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact
from stages.core.errors import ArtifactError, ConfigError, InputError
from stages.core.params import Section, parse

SIGNATURE = "signature.json"
INPUTS = ("input_ids", "attention_mask")
OUTPUTS = ("logits",)

Inputs = Mapping[str, NDArray[np.int32]]


class Runtime(Protocol):
    """An opened artifact.

    Attributes:
        label: what executes, for example `litert-cpu-xnnpack`.
        batches: whether it takes several utterances at once.
    """

    label: str
    batches: bool

    def run(self, inputs: Inputs) -> dict[str, NDArray[np.float32]]:
        """Compute one utterance, or with `batches` several of one length.

        Args:
            inputs: `input_ids` and `attention_mask`, int32 [1, n]; with `batches` [batch, n].

        Returns:
            `logits`, fp32 [1 or batch, labels], dequantised.
        """
        ...


class Signature(Section):
    """How an artifact is called; `signature.json`."""

    inputs: list[str]
    outputs: list[str]
    sequence_lengths: list[int]
    """Ascending lengths the artifact was built for."""
    dynamic: bool
    """Whether any length up to the last of `sequence_lengths` runs without padding."""
    pad_token_id: int


def write_signature(directory: Path, *, sequence_lengths: Sequence[int], dynamic: bool, pad_token_id: int) -> None:
    """Write `signature.json` of a `classify` artifact into `directory`."""
    signature = Signature(
        inputs=list(INPUTS),
        outputs=list(OUTPUTS),
        sequence_lengths=list(sequence_lengths),
        dynamic=dynamic,
        pad_token_id=pad_token_id,
    )
    artifact.write_json(directory / SIGNATURE, signature.model_dump())


def read_signature(directory: Path) -> Signature:
    """Read the signature of an artifact.

    Raises:
        ArtifactError: it is missing or does not have the expected keys.
    """
    path = directory / SIGNATURE
    try:
        return parse(Signature, artifact.read_json(path), str(path))
    except ConfigError as error:
        raise ArtifactError(f"'{path}' is not a signature: {error}", next_step="run `dvc repro`") from error


def utterances(split: Mapping[str, NDArray[Any]]) -> Iterator[dict[str, NDArray[np.int32]]]:
    """Yield the inputs of each utterance alone, int32 [1, n] at its true length, as an app would pass them.

    Args:
        split: `input_ids` and `attention_mask` [utterances, max_length], right-padded; other arrays are not read.
    """
    for row, length in enumerate(split["attention_mask"].sum(axis=1)):
        yield {name: split[name][row : row + 1, : int(length)].astype(np.int32, copy=False) for name in INPUTS}


def pad_to_signature(inputs: Inputs, lengths: Sequence[int], pad_token_id: int) -> dict[str, NDArray[np.int32]]:
    """Right-pad an utterance to the smallest length that holds it.

    Args:
        inputs: `input_ids` and `attention_mask`, int32 [1, n].
        lengths: the lengths to choose from, in any order.
        pad_token_id: fills `input_ids`; `attention_mask` is filled with 0.

    Returns:
        The same two arrays as int32 [1, length].

    Raises:
        InputError: inputs are missing or of another type or shape, or no length holds them.
    """
    if set(inputs) != set(INPUTS):
        raise InputError(f"inputs are {sorted(inputs)}", expected=f"exactly {sorted(INPUTS)}")
    shape = inputs["input_ids"].shape
    for name in INPUTS:
        array = inputs[name]
        if array.dtype != np.int32 or array.ndim != 2 or array.shape != shape or shape[0] != 1:
            raise InputError(f"'{name}' is {array.dtype} {list(array.shape)}", expected="int32 [1, n], both alike")
    fitting = [length for length in lengths if length >= shape[1]]
    if not fitting:
        raise InputError(f"{shape[1]} tokens do not fit", expected=f"at most {max(lengths)}", next_step="truncate")
    missing = ((0, 0), (0, min(fitting) - shape[1]))
    fill = {"input_ids": pad_token_id, "attention_mask": 0}
    return {name: np.pad(inputs[name], missing, constant_values=fill[name]) for name in INPUTS}
