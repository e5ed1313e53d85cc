"""Hold a quantised model to the model it was made from, operator by operator and weight by weight.

Logits cannot tell every fault from rounding: a layer of zeros, two matrices that changed places or an epsilon of
another model may move int8 logits less than int8 does. So both graphs are walked together from their outputs: every
operator, attribute and integer must be the same, and every weight as close as the way it is stored allows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Allowed = Callable[[Array], Array]
"""fp32 source of a weight → largest error each of its elements may have, of the same shape."""

SMALLEST_STEP = np.float32(2.0**-24)
"""Of fp16, and no quantiser chooses a finer one: an epsilon of 1e-12 becomes 0 or this."""
_SLACK = np.float32(2.0**-20)
"""Relative; levels were chosen in another order of float operations than they are expanded in."""
CUT_STEPS = 2.0
"""Levels: min-max calibration cuts nothing, and the zero point is rounded."""
TOO_WIDE = 1.25
"""Times: min-max calibration gives 1.00 on every activation of the default build's static artifacts."""
COARSER = np.float32(1.02)
"""How much longer a step may be than the source's range asks for."""


def exact(source: Array) -> Array:
    """Stored as it was."""
    return np.zeros(source.shape, np.float32)


def half(source: Array) -> Array:
    """Rounded to fp16."""
    ulp = np.spacing(np.abs(source).astype(np.float16)).astype(np.float32)
    return np.asarray(ulp / 2 + SMALLEST_STEP, np.float32)


def uniform(
    step: Array,
    levels: Array,
    bits: int,
    reach: Callable[[Array], Array] | None = None,
    within: float | None = None,
) -> Allowed:
    """Rounded to the nearest of evenly spaced levels.

    Args:
        step: distance between levels, to be broadcast to the weight's shape.
        levels: stored integers, of the weight's shape. The outermost may be a whole step off: a rounded zero point
            pushes them past the type's range.
        bits: of a level. Up to 16, no step may be longer than the range of the source that it covers asks for:
            with a step of any length every weight would be near a level. An integer bias of 32 bits has the step of
            the product that it is added to.
        reach: source → what half the levels have to cover, to be broadcast to it; its largest magnitude by default.
        within: steps that any element may be off, where some make up for the errors of others; None for the nearest.
    """
    outermost = (levels == levels.min()) | (levels == levels.max()) if levels.size else levels.astype(bool)
    share = np.where(outermost, np.float32(1), np.float32(0.5)) if within is None else np.float32(within)
    shared = tuple(axis for axis in range(levels.ndim) if step.ndim != levels.ndim or step.shape[axis] == 1)

    def allowed(source: Array) -> Array:
        covered = np.abs(source).max(axis=shared, keepdims=True, initial=0) if reach is None else reach(source)
        longest = covered * COARSER / np.float32(2 ** (bits - 1) - 1)
        usual = np.abs(step) if bits > 16 else np.minimum(np.abs(step), longest)
        return np.asarray(np.maximum(usual * share + np.abs(source) * _SLACK, SMALLEST_STEP), np.float32)

    return allowed


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor the model is born with.

    Attributes:
        name: in the file.
        value: decompressed.
        allowed: how far it may lie from what it was made from; None where it must be equal to the bit.
    """

    name: str
    value: Any
    allowed: Allowed | None = None

    def transposed(self) -> Constant:
        """Swap the last two axes."""
        allowed = self.allowed
        turned = None if allowed is None else lambda source: allowed(source.swapaxes(-1, -2)).swapaxes(-1, -2)
        return Constant(self.name, self.value.swapaxes(-1, -2), turned)


@dataclass(frozen=True, eq=False)
class Input:
    """What the caller passes in."""

    name: str


@dataclass(frozen=True, eq=False)
class Node:
    """What one operator gives out, whatever number format it computes in.

    Attributes:
        op: operator type.
        name: in the file.
        inputs: parameter or position → value.
        attributes: settings, comparable with `==`.
        output: which of its outputs.
    """

    op: str
    name: str
    inputs: Mapping[str, Value]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    output: int = 0


@dataclass(frozen=True, eq=False)
class Rounded:
    """An activation that is stored in integers on its way.

    Attributes:
        value: what is rounded.
        low: smallest number that the integers can express.
        high: largest.
        step: distance between two of them.
        borrowed: the grid is that of what the value was made of, or fixed by its function, and may be used in part.
    """

    value: Value
    low: float
    high: float
    step: float
    borrowed: bool = False

    @classmethod
    def on_grid(
        cls, value: Value, scale: float, zero: float, lowest: int, highest: int, *, borrowed: bool = False
    ) -> Rounded:
        """Describe the grid by its scale, zero point and outermost integers."""
        return cls(value, (lowest - zero) * scale, (highest - zero) * scale, scale, borrowed)


Value = Constant | Input | Node | Rounded
Ranges = Mapping[str, tuple[float, float]]
Grids = Mapping[str, Sequence[Rounded]]
"""Tensor → how it is rounded, in each place."""
Graph = Mapping[str, Value]
"""Output → value; where a file holds several signatures, their names come first."""


@dataclass(frozen=True)
class WeightError:
    """A weight beside its source.

    Attributes:
        name: of the source.
        beyond: elements that differ by more than their storage can explain.
        channel: index on the first axis that exceeds its bound most, or comes closest to it.
        cosine: of the two.
        size: elements.
    """

    name: str
    beyond: int
    channel: int
    cosine: float
    size: int


@dataclass
class Comparison:
    """What was found.

    Attributes:
        differences: one line per operator, attribute or integer that is not the source's.
        weights: float constants, in the order they were met.
        operators: how many were compared.
        grids: tensor of the source → how the made model rounds it, in each place, for static precisions.
    """

    differences: list[str] = field(default_factory=list)
    weights: list[WeightError] = field(default_factory=list)
    operators: int = 0
    grids: dict[str, list[Rounded]] = field(default_factory=dict)

    @property
    def beyond(self) -> int:
        """Elements of weights that their storage cannot explain."""
        return sum(weight.beyond for weight in self.weights)


def compare(source: Graph, made: Graph) -> Comparison:
    """Walk two graphs together from their outputs.

    Below an operator that differs nothing is compared: what follows from one fault is not another.

    Args:
        source: the converted model.
        made: the model made from it, with its quantisation operators taken away.
    """
    found = Comparison()
    if set(source) != set(made):
        found.differences.append(f"outputs are {sorted(made)}, expected {sorted(source)}")
    pending = [(source[name], made[name], name) for name in sorted(set(source) & set(made), reverse=True)]
    seen: set[tuple[int, int]] = set()
    while pending:
        expected, actual, place = pending.pop()
        if (id(expected), id(actual)) in seen:
            continue
        seen.add((id(expected), id(actual)))
        while isinstance(expected, Rounded):
            expected = expected.value
        while isinstance(actual, Rounded):
            if isinstance(expected, Node):
                found.grids.setdefault(expected.name, []).append(actual)
            else:
                found.differences.append(f"{place} ({_phrase(expected)}) is rounded, which nothing measures")
            actual = actual.value
        if isinstance(expected, Constant) and isinstance(actual, Constant):
            _compare_constants(expected, actual, place, found)
        elif isinstance(expected, Node) and isinstance(actual, Node):
            found.operators += 1
            difference = _node_difference(expected, actual)
            if difference:
                found.differences.append(f"'{expected.name}' {difference}")
                continue
            pending += [
                (value, actual.inputs[key], f"'{expected.name}' input {key}")
                for key, value in reversed(list(expected.inputs.items()))
            ]
        elif _phrase(expected) != _phrase(actual):
            found.differences.append(f"{place} is {_phrase(actual)}, expected {_phrase(expected)}")
    return found


def misfits(grids: Grids, seen: Ranges, possible: Ranges) -> list[str]:
    """Name the activations whose integers do not fit what was seen in calibration.

    Args:
        grids: tensor → how it is rounded, in each place.
        seen: tensor → smallest and largest value over the calibration split, as the artifact was calibrated at least.
        possible: the same over every form that it may have been calibrated in.

    Returns:
        One line per activation that was never seen, that would be cut off by more than `CUT_STEPS`, or whose integers,
        where they are its own, reach more than `TOO_WIDE` times as far as anything possible.
    """
    found = [f"'{name}' is rounded, and calibration never computes it" for name in sorted(set(grids) - set(possible))]
    for name in sorted(set(grids) & set(possible)):
        # A signature too long for every utterance is calibrated on padded ones.
        low, high = seen.get(name, possible[name])
        found += [
            f"'{name}' spans {low:.4g} to {high:.4g}, its integers {grid.low:.4g} to {grid.high:.4g}"
            for grid in grids[name]
            if not _fits(grid, (low, high), possible[name])
        ]
    return found


def _fits(grid: Rounded, seen: tuple[float, float], possible: tuple[float, float]) -> bool:
    cut = max(grid.low - seen[0], seen[1] - grid.high) / grid.step if grid.step > 0 else np.inf
    lowest, highest = possible
    span = max(highest, 0) - min(lowest, 0)
    if abs(grid.low + grid.high) <= grid.step:  # symmetric by choice, whatever it holds
        span = 2 * max(abs(lowest), abs(highest))
    wide = (grid.high - grid.low) / max(span, 256 * float(SMALLEST_STEP))
    return bool(cut <= CUT_STEPS and (wide <= TOO_WIDE or grid.borrowed))


def _node_difference(expected: Node, actual: Node) -> str:
    if (expected.op, expected.output) != (actual.op, actual.output):
        return f"is {actual.op}, expected {expected.op}"
    if set(expected.inputs) != set(actual.inputs):
        return f"({expected.op}) has inputs {sorted(actual.inputs)}, expected {sorted(expected.inputs)}"
    for key in sorted(set(expected.attributes) | set(actual.attributes)):
        if expected.attributes.get(key) != actual.attributes.get(key):
            was, now = expected.attributes.get(key), actual.attributes.get(key)
            return f"({expected.op}) has {key} = {now}, expected {was}"
    return ""


def _compare_constants(expected: Constant, actual: Constant, place: str, found: Comparison) -> None:
    before, after = np.asarray(expected.value), np.asarray(actual.value)
    if before.shape != after.shape:
        found.differences.append(f"{place} has shape {list(after.shape)}, expected {list(before.shape)}")
    elif before.dtype.kind != "f" or after.dtype.kind != "f":
        if not np.array_equal(before, after):
            found.differences.append(f"{place} is {_short(after)}, expected {_short(before)}")
    else:
        bound = exact if actual.allowed is None else actual.allowed
        found.weights.append(_weight_error(expected.name, before, after, bound))


def _weight_error(name: str, before: Array, after: Array, allowed: Allowed) -> WeightError:
    source, value = (np.atleast_1d(array.astype(np.float32)) for array in (before, after))
    bound = np.broadcast_to(np.atleast_1d(allowed(before.astype(np.float32))), source.shape)
    with np.errstate(invalid="ignore"):
        excess = np.abs(value - source) - bound
    # Written so that a NaN, which compares false with everything, counts as beyond.
    beyond = ~(excess <= 0)
    worst = np.where(np.isnan(excess), np.float32(np.inf), excess).reshape(len(source), -1).max(axis=1, initial=0)
    lengths = float(np.linalg.norm(source)) * float(np.linalg.norm(value))
    dot = float(source.reshape(-1) @ value.reshape(-1))
    cosine = dot / lengths if 0 < lengths < np.inf else float(not source.any() and not value.any())
    return WeightError(name, int(beyond.sum()), int(worst.argmax()) if worst.size else 0, cosine, source.size)


def _phrase(value: Value) -> str:
    match value:
        case Constant():
            return "a constant"
        case Input():
            return f"input '{value.name}'"
        case Node():
            return f"the result of {value.op}"
        case Rounded():
            return _phrase(value.value)


def _short(array: Array) -> str:
    text = np.array2string(array, threshold=4, edgeitems=2).replace("\n", " ")
    return text if len(text) <= 60 else f"{text[:57]}..."
