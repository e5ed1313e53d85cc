"""What following an artifact through its checkpoint finds, step by step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tensor:
    """What one operator of an artifact computed: its type, the tensor's name, fp32."""

    operator: str
    name: str
    value: NDArray[np.float32]


@dataclass(frozen=True)
class Bands:
    """Largest relative error of a sound artifact.

    Attributes:
        matrix: of the output of a module that holds a matrix: a linear layer, an embedding.
        rest: of everything else.
    """

    matrix: float
    rest: float


@dataclass(frozen=True)
class Step:
    """One value of the checkpoint beside the tensor most like it.

    Attributes:
        module: path of the module, or `input of` one.
        operator: of the tensor, '' where the artifact has none of its size.
        tensor: its name.
        position: its place in order of execution.
        error: see `relative_error`.
        band: largest error allowed.
    """

    module: str
    operator: str
    tensor: str
    position: int
    error: float
    band: float

    @property
    def within(self) -> bool:
        """Whether the error is a number in its band."""
        return self.error <= self.band


@dataclass(frozen=True)
class Divergence:
    """Where an artifact departs from its checkpoint.

    Attributes:
        at: the first step beyond its band.
        before: the last one within before it, None at the first layer.
        exchanged: the two modules whose outputs changed places, which explains it; empty where that does not.
        operators: `type tensor` of everything computed between the two.
    """

    at: Step
    before: Step | None
    exchanged: tuple[str, ...]
    operators: tuple[str, ...]

    @property
    def module(self) -> str:
        """The module to look at first."""
        return self.exchanged[0] if self.exchanged else self.at.module


@dataclass(frozen=True)
class Trail:
    """Everything compared on one input, in order, and where it first diverges; steps after that say nothing."""

    steps: tuple[Step, ...]
    divergence: Divergence | None
