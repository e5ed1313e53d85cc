"""Every weight of an artifact, decompressed, against the checkpoint it came from.

Parity only sees weights that a probe reads: a corrupted row of an embedding passes it. Here each element is held to
what its compression allows, so that one wrong element is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stages.coreml.dtypes import Array
from stages.coreml.program import Program
from stages.coreml.weight_bounds import allowed_error
from stages.coreml.weight_sources import Source, find_source, sanitised

_SMALLEST = 16
"""Elements; shorter constants are settings (epsilon, scale), which parity reaches."""


@dataclass(frozen=True)
class Compared:
    """One weight.

    Attributes:
        name: in the program.
        source: checkpoint tensor, with what was done to it (`rows of`, `scaled by`).
        storage: the operation that decompresses it, or `const`.
        max_abs_error: largest difference from the source.
        relative_error: that, over the source's largest magnitude.
        cosine: of the two, flattened.
        worst_channel: index along axis 0 that comes closest to its bound, or exceeds it most.
        worst_channel_cosine: of that channel.
        beyond: elements that differ by more than the compression can explain.
        size: elements.
    """

    name: str
    source: str
    storage: str
    max_abs_error: float
    relative_error: float
    cosine: float
    worst_channel: int
    worst_channel_cosine: float
    beyond: int
    size: int


@dataclass(frozen=True)
class Comparison:
    """A program beside its checkpoint.

    Attributes:
        weights: those with a source.
        unmatched: names of weights of the program that no checkpoint tensor explains.
        absent: checkpoint tensors that nothing in the program comes from.
    """

    weights: tuple[Compared, ...]
    unmatched: tuple[str, ...]
    absent: tuple[str, ...]

    @property
    def corrupted(self) -> tuple[Compared, ...]:
        """Weights with elements their compression cannot explain."""
        return tuple(weight for weight in self.weights if weight.beyond)

    @property
    def passed(self) -> bool:
        """Whether every weight of the program has a source and agrees with it."""
        return not self.corrupted and not self.unmatched


def compare(program: Program, checkpoint: Mapping[str, Array]) -> Comparison:
    """Compare every weight with its source.

    Args:
        program: the artifact.
        checkpoint: tensors by name, as in the safetensors file the artifact was converted from.

    Returns:
        The comparison; it judges nothing beyond what each weight's own storage can explain.
    """
    storage = {o.outputs[-1].name: o for o in program.function.block.walk() if o.outputs}
    tensors = {key: np.asarray(value, np.float32) for key, value in checkpoint.items()}
    names = {sanitised(key): key for key in tensors}
    weights, unmatched, used = [], [], set()
    for name, value in compared_weights(program):
        wide = value.astype(np.float32)
        source = find_source(name, wide, tensors, names)
        if source is None:
            unmatched.append(name)
            continue
        used |= set(source.tensors)
        bound = allowed_error(storage[name], program, source.value, value)
        weights.append(_compare(name, source, storage[name].type, wide, bound))
    return Comparison(tuple(weights), tuple(unmatched), _absent(tensors, used))


def compared_weights(program: Program) -> list[tuple[str, Array]]:
    """Return the weights that are compared: floating-point tensors that operations, not decompressions, read."""
    read = {
        argument
        for operation in program.function.block.walk()
        if not operation.type.startswith("constexpr_")
        for arguments in operation.inputs.values()
        for argument in arguments
        if isinstance(argument, str)
    }
    return [(n, v) for n, v in program.weights() if n in read and v.dtype.kind == "f" and v.size >= _SMALLEST]


def cosine(a: Array, b: Array) -> float:
    """Cosine of two flattened tensors; 1 when both are zero, 0 when one is."""
    x, y = a.reshape(-1).astype(np.float64), b.reshape(-1).astype(np.float64)
    lengths = float(np.linalg.norm(x) * np.linalg.norm(y))
    if lengths == 0:
        return 1.0 if not x.any() and not y.any() else 0.0
    return float(x @ y / lengths)


def _compare(name: str, source: Source, storage: str, value: Array, bound: Array) -> Compared:
    difference = np.abs(value - source.value)
    # Written so that a NaN, which compares false with everything, counts as beyond.
    beyond = int((~(difference <= bound)).sum())
    channels = (difference - bound).reshape(difference.shape[0], -1).max(1)
    worst = int(np.argmax(channels))
    largest = float(np.abs(source.value).max())
    error = float(difference.max())
    return Compared(
        name=name,
        source=source.label,
        storage=storage,
        max_abs_error=error,
        relative_error=error / largest if largest else error,
        cosine=cosine(value, source.value),
        worst_channel=worst,
        worst_channel_cosine=cosine(value[worst], source.value[worst]),
        beyond=beyond,
        size=value.size,
    )


def _absent(tensors: Mapping[str, Array], used: set[str]) -> tuple[str, ...]:
    """Checkpoint tensors nothing came from; equal ones stand for each other, since converters keep one of them."""
    kept = {(tensors[key].shape, tensors[key].tobytes()) for key in used}
    return tuple(key for key, value in tensors.items() if (value.shape, value.tobytes()) not in kept)
