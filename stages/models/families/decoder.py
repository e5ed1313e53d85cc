"""What a causal language model computes, said once for every platform's writer: sizes, settings, weights by their part.

A family's file reads a checkpoint into this; no torch takes part, so that a model of 500 MB is converted in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError

Array = NDArray[np.float32]
WITHHELD = {
    "own layers": "its layers differ by more than their weights",
    "whole matrices": "what is written for platforms knows no product of two matrices",
    "words": "pairs of bytes are merged one from another, so that none can be cut by its use alone",
}
"""What compressions would take from a decoder → why they cannot."""
NO_WIDTH = {"heads": "its config says no width of a head, so that none can be missing"}


@dataclass(frozen=True)
class _Weighted:
    name: str
    weight: Array
    bias: Array | None = None

    @property
    def bias_name(self) -> str:
        """Name of its bias in the checkpoint."""
        return self.name.removesuffix("weight") + "bias"


class Linear(_Weighted):
    """A matrix product.

    Attributes:
        name: of its weight in the checkpoint.
        weight: fp32 [out, in].
        bias: fp32 [out], or None.
    """


class Norm(_Weighted):
    """A normalisation over the last axis.

    Attributes:
        name: of its weight in the checkpoint.
        weight: fp32 [width], or [head_size] of a head's.
        bias: like `weight`; None where it is a root mean square, which subtracts no mean either.
    """


@dataclass(frozen=True)
class Layer:
    """One decoder layer.

    Attributes:
        attention_norm: before the attention, or after its residual sum (`Decoder.norm_first`).
        query: width → heads × head_size.
        key: width → key-value heads × head_size, like `value`.
        value: see `key`.
        output: heads × head_size → width.
        ffn_norm: before the FFN, or after its residual sum.
        gate: width → units, whose activation multiplies `up`'s result; None where the activation is of `up` itself.
        up: width → units.
        down: units → width.
        query_norm: of each query by itself, before it is turned; None where there is none.
        key_norm: the same of keys.
    """

    attention_norm: Norm
    query: Linear
    key: Linear
    value: Linear
    output: Linear
    ffn_norm: Norm
    gate: Linear | None
    up: Linear
    down: Linear
    query_norm: Norm | None = None
    key_norm: Norm | None = None


@dataclass(frozen=True)
class Decoder:
    """A causal language model.

    Attributes:
        heads: of the queries.
        groups: of keys and values; each serves heads / groups heads in turn.
        head_size: width of one head.
        context: tokens that it may read.
        padding: id that its config names for padding, which it never sees; None where it names none.
        epsilon: of every normalisation.
        norm_first: whether layers normalise before attention and FFN, not after their residual sums.
        activation: of the FFN, as transformers calls it.
        frequencies: fp32 [head_size / 2] radians per position, by which halves of queries and keys are turned; None
            where positions are learned.
        words: fp32 [vocabulary, width].
        words_name: of that table in the checkpoint.
        positions: fp32 [context, width] learned positions, None where there are none.
        positions_name: of that table.
        layers: in order.
        norm: after the last layer; None where layers normalise after their sums.
        head: width of the table → vocabulary; None where it is the table of words.
        widen: table's width → width, where they differ; None else.
        narrow: width → table's width, before the head; None else.
    """

    heads: int
    groups: int
    head_size: int
    context: int
    padding: int | None
    epsilon: float
    norm_first: bool
    activation: Literal["silu", "relu", "gelu"]
    frequencies: Array | None
    words: Array
    words_name: str
    positions: Array | None
    positions_name: str
    layers: tuple[Layer, ...]
    norm: Norm | None
    head: Linear | None
    widen: Linear | None = None
    narrow: Linear | None = None

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return len(self.words)

    def require(self, length: int) -> None:
        """Refuse to be written for texts that it cannot read whole.

        Args:
            length: tokens of a text, the task's `max_length`.

        Raises:
            InputError: it reads fewer.
        """
        if self.context < length:
            raise InputError(
                f"the model reads {self.context} tokens and the task's max_length is {length}",
                next_step="lower task.max_length",
            )

    def turns(self, room: int) -> tuple[Array, Array]:
        """Return cosine and sine of the first positions' rotations: fp32 [room, head_size / 2], as torch rounds them.

        Source: Su et al., RoFormer (2021), section 3.4; transformers turns the two halves of a head, not its pairs.
        """
        assert self.frequencies is not None
        angles = np.arange(room, dtype=np.float32)[:, None] * self.frequencies[None]
        return np.cos(angles), np.sin(angles)
