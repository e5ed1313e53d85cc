"""What every task is said in: how an artifact is called, and what its answers come down to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
"""Tensors by name."""


class Tensor(NamedTuple):
    """An input, output or state of a call.

    Attributes:
        name: as the artifact calls it.
        dtype: `int32` or `float32`, as the caller gives or gets it, whatever the artifact holds inside.
        axes: sizes, or names of sizes that vary: `batch`, `sequence`.
    """

    name: str
    dtype: str
    axes: tuple[str | int, ...]


class Call(NamedTuple):
    """One way to run an artifact: `forward` of an encoder, `prefill` and `decode` of a decoder.

    Attributes:
        name: as `Session.run` takes it.
        inputs: what is given.
        outputs: what comes back.
        states: what one call leaves for the next, such as a cache; empty where calls know nothing of each other.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    states: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Items:
    """What a split comes down to: one row for each single answer, of which a text may have many.

    Attributes:
        case: int32 [items], the text that each belongs to, ascending.
        logits: float32 [items, classes].
        wanted: int64 [items], the right class, -1 where it is not known.
    """

    case: NDArray[np.int32]
    logits: NDArray[np.float32]
    wanted: NDArray[np.int64]
