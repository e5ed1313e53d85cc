"""Names the first layer of an artifact that computes something else than its checkpoint.

The checkpoint follows the artifact: wherever a tensor of the artifact is what a module should have computed from what
came before, up to the error of the artifact's precision, that tensor takes the place of the module's output. An error
is so charged to the layer it arose in, and rounding does not add up over layers. Tensors are recognised by content;
no name is relied upon, since converters rename, fuse and reorder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice, permutations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.models.families import family_of
from stages.models.intermediates import visit
from stages.models.trail import Bands, Divergence, Step, Tensor, Trail

Array = NDArray[Any]

UNLIKE = 0.5
"""Relative error from which on nothing in the artifact resembles a value: it diverged, or was fused away."""

FUSED = 2
"""Steps within which a value that was fused away shows its effect: a sum, and the normalisation of it."""
ROUNDING = 1e-6
"""Relative error of a norm in fp32."""


def relative_error(value: Array, expected: Array) -> float:
    """Error of the worst position, over its own size or a typical one's, whichever is larger.

    Args:
        value: what was computed, of the shape of `expected`.
        expected: vectors along the last axis.

    Returns:
        Largest ratio of the Euclidean norm of a vector's difference to that of the expected vector, or to the root
        mean square of all of them: one wrong token stands out; one rounded element, or rounding of a vector that is
        next to nothing, does not. Infinite where a value is not finite.
    """
    width = expected.shape[-1]
    difference = np.linalg.norm((value.astype(np.float64) - expected).reshape(-1, width), axis=1)
    if not np.isfinite(difference).all():
        return float("inf")
    sizes = np.linalg.norm(expected.astype(np.float64).reshape(-1, width), axis=1)
    typical = float(np.sqrt(np.square(sizes).mean())) or 1.0
    return float((difference / np.maximum(sizes, typical)).max())


def _overall_error(value: Array, expected: Array) -> float:
    """Error of all positions together, which tells a tensor with one wrong token from another tensor."""
    error = float(np.linalg.norm(value.astype(np.float64) - expected)) / (float(np.linalg.norm(expected)) or 1.0)
    return error if np.isfinite(error) else float("inf")


def follow(model: torch.nn.Module, inputs: Mapping[str, Array], tensors: Sequence[Tensor], bands: Bands) -> Trail:
    """Run a checkpoint beside what its artifact computed on the same input.

    Args:
        model: the checkpoint, in eval mode.
        inputs: `input_ids` and `attention_mask`, int32 [1, n], padded as the artifact's were.
        tensors: the artifact's, in order of execution.
        bands: of the artifact's precision.
    """
    inputs = asked(model, inputs)
    constant = _constant(model, inputs)
    follower = _Follower(tensors, bands, constant)
    visit(model, inputs, follower)
    index = follower.divergence()
    if index is None:
        return Trail(tuple(follower.steps), None)
    exchanged: tuple[str, ...] = ()
    for pair in follower.exchangeable(index):
        again = _Follower(tensors, bands, constant, follower.exchange(*pair))
        visit(model, inputs, again)
        if again.steps[index].within:
            exchanged = tuple(follower.steps[i].module for i in pair)
    return Trail(tuple(follower.steps), follower.describe(index, exchanged))


def asked(model: Any, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    """Give the positions that the artifact has, where the model would count those of padding otherwise."""
    counted = family_of(model.config).position_ids(model.config)
    return inputs if counted is None else {**inputs, "position_ids": counted[None, : inputs["input_ids"].shape[1]]}


def _constant(model: torch.nn.Module, inputs: Mapping[str, Array]) -> set[str]:
    """Names of values that are the same for other ids, as of positions: converters fold them into one constant."""
    values = _values(model, inputs)
    others = _values(model, {**inputs, "input_ids": np.roll(inputs["input_ids"], 1, axis=1)})
    return {name for name, value in values.items() if torch.equal(value, others[name])}


def _values(model: torch.nn.Module, inputs: Mapping[str, Array]) -> dict[str, torch.Tensor]:
    values: dict[str, torch.Tensor] = {}

    def keep(name: str, module: torch.nn.Module | None, value: torch.Tensor) -> None:  # noqa: ARG001 (a visitor)
        values[name] = value

    visit(model, inputs, keep)
    return values


@dataclass
class _Follower:
    """A visitor that compares each value and lets the artifact's take its place.

    Attributes:
        tensors: the artifact's.
        bands: of its precision.
        constant: names of values not to be compared.
        exchanged: values to put in place unseen, by name.
        steps: what was compared.
        values: the checkpoint's, of each step.
        found: the artifact's, of each step within its band.
    """

    tensors: Sequence[Tensor]
    bands: Bands
    constant: set[str]
    exchanged: Mapping[str, Array] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    values: list[torch.Tensor] = field(default_factory=list)
    found: list[Array | None] = field(default_factory=list)
    _after_constant: bool = False
    _norms: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    _operators: dict[type, str] = field(default_factory=dict)
    _activations: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for position, tensor in enumerate(self.tensors):
            norm = float(np.linalg.norm(tensor.value))
            self._norms.setdefault(tensor.value.size, []).append((position, norm))

    def __call__(self, name: str, module: torch.nn.Module | None, value: torch.Tensor) -> torch.Tensor | None:
        if name in self.constant:
            self._after_constant = True
            return None
        # What is computed next carries the rounding of the constant's matrix.
        matrix = self._after_constant or _holds_matrix(module)
        self._after_constant = False
        expected, band = value.detach().numpy(), self.bands.matrix if matrix else self.bands.rest
        step, found = self._match(name, type(module), expected, band)
        if not step.within and expected.ndim == 3 and expected.shape[1] > 1:
            step, found = self._match_one_token(step, found, type(module), expected)
        found = self.exchanged.get(name, found if step.within else None)
        if module is not None and next(module.parameters(), None) is None:
            self._activations.add(name)
        self.steps.append(step)
        self.values.append(value)
        self.found.append(found)
        # The artifact's numbers with the checkpoint's gradient, which tells later what was computed from what.
        return None if found is None else value + (torch.from_numpy(np.ascontiguousarray(found)) - value).detach()

    def divergence(self) -> int | None:
        """Return the place of the first step beyond its band that was not fused away."""
        beyond = (index for index, step in enumerate(self.steps) if not step.within)
        found = next((index for index in beyond if not self._absent(index)), None)
        return None if found is None else found + int(self._fused(found))

    def describe(self, index: int, exchanged: tuple[str, ...]) -> Divergence:
        """Name what lies between a step and the last one within before it."""
        step = self.steps[index]
        before = next((earlier for earlier in reversed(self.steps[:index]) if earlier.within), None)
        start = 0 if before is None else before.position + 1
        between = (f"{item.operator} {item.name}" for item in self.tensors[start : step.position + 1])
        return Divergence(step, before, exchanged, tuple(between))

    def exchangeable(self, index: int) -> list[tuple[int, int]]:
        """Pairs of layers beside each other, as query and key, that a step is computed from, first ones first.

        Where they changed places both values are found, each in the other's place: only what follows is wrong.
        """
        name = self.steps[index].module
        layers = [i for i in range(index) if self.found[i] is not None and _parent(self.steps[i].module) in name]
        return [
            (one, other)
            for one, other in combinations(layers, 2)
            if _parent(self.steps[one].module) == _parent(self.steps[other].module)
            and self.values[one].shape == self.values[other].shape
        ]

    def exchange(self, one: int, other: int) -> dict[str, Array]:
        """Give each of two steps the other's value."""
        names, found = [self.steps[i].module for i in (one, other)], [self.found[i] for i in (other, one)]
        return {name: value for name, value in zip(names, found, strict=True) if value is not None}

    def _fused(self, index: int) -> bool:
        """Whether the tensor is rather what an activation makes of the value, as of a ReLU inside a product."""
        step, after = self.steps[index], self.steps[index + 1 : index + 2]
        return step.error >= UNLIKE and any(
            other.module in self._activations and other.position == step.position and other.error < step.error
            for other in after
        )

    def _absent(self, index: int) -> bool:
        """Whether the artifact has no such tensor and is none the worse for it.

        Then nothing resembles it, not in another layer either, and what is computed from it is right again at once.
        Not later: the first token, which a classifier reads, may be right where others are wrong.
        """
        step, kind = self.steps[index], _kind(self.steps[index].module)
        if step.error < UNLIKE or any(other.within and _kind(other.module) == kind for other in self.steps):
            return False
        later = (i for i in range(index + 1, len(self.steps)) if self._computed_from(i, index))
        return any(self.steps[i].within for i in islice(later, FUSED))

    def _computed_from(self, later: int, earlier: int) -> bool:
        (gradient,) = torch.autograd.grad(
            self.values[later].sum(), self.values[earlier], allow_unused=True, retain_graph=True
        )
        return gradient is not None

    def _match(self, name: str, kind: type, expected: Array, band: float) -> tuple[Step, Array | None]:
        best = self._nearest(expected, -1)
        if best is not None and best[0] <= band:
            self._operators.setdefault(kind, self.tensors[best[1]].operator)
        elif best is not None:
            best = self._blamed(expected, kind) or best
        if best is None:
            return Step(name, "", "", len(self.tensors), float("inf"), band), None
        error, position, value = best
        found = self.tensors[position]
        return Step(name, found.operator, found.name, position, error, band), value

    def _match_one_token(
        self, whole: Step, found: Array | None, kind: type, expected: Array
    ) -> tuple[Step, Array | None]:
        """Match one token's row alone, where that is closer: past the last attention others are not read.

        Of a classifier the first token is, of a text that goes on the last. The rows that the artifact does not compute
        are right by definition.
        """
        for at in (0, expected.shape[1] - 1):
            step, row = self._match(whole.module, kind, expected[:, at : at + 1], whole.band)
            if row is not None and step.error < whole.error:
                whole, found = step, np.concatenate([expected[:, :at], row, expected[:, at + 1 :]], axis=1)
            if whole.within:
                break
        return whole, found

    def _blamed(self, expected: Array, kind: type) -> tuple[float, int, Array] | None:
        """Find the tensor that should have been the value: after what it is computed from, and most like it.

        Where none is like it, the first that comes from the operator which computes such modules elsewhere.
        """
        start = next((step.position for step in reversed(self.steps) if step.within), -1)
        best = self._nearest(expected, start, _overall_error)
        if best is None or best[0] >= UNLIKE:
            operator = self._operators.get(kind)
            alike = (
                position
                for position in range(start + 1, len(self.tensors))
                if self.tensors[position].operator == operator and self.tensors[position].value.size == expected.size
            )
            position = next(alike, None)
            if position is not None:
                layouts = _layouts(self.tensors[position].value, expected.shape)
                best = 0.0, position, min(layouts, key=lambda value: relative_error(value, expected))
        return best and (relative_error(best[2], expected), *best[1:])

    def _nearest(
        self, expected: Array, after: int, measure: Callable[[Array, Array], float] = relative_error
    ) -> tuple[float, int, Array] | None:
        """Find the tensor with the smallest error, the first of equal ones, as (error, position, value)."""
        size = float(np.linalg.norm(expected)) or 1.0
        # Two tensors differ by no less than their norms do, which the order of axes does not change; the squares of
        # what `relative_error` divides by add up to twice the square of the norm at most.
        bounds = sorted(
            (abs(norm - size) / size / 2**0.5 if np.isfinite(norm) else np.inf, position)
            for position, norm in self._norms.get(expected.size, [])
            if position > after
        )
        best: tuple[float, int, Array] | None = None
        for bound, position in bounds:
            if best is not None and bound > best[0] + ROUNDING:
                break
            for value in _layouts(self.tensors[position].value, expected.shape):
                # Cheaper than either measure, and by the same reasoning no more than it.
                if best is not None and np.linalg.norm(value - expected) / size / 2**0.5 > best[0] + ROUNDING:
                    continue
                error = measure(value, expected)
                if best is None or (error, position) < best[:2]:
                    best = error, position, value
        return best


def _layouts(value: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    """Yield a tensor as it may lie in memory: axes in another order, axes of 1 anywhere, heads split or merged."""
    squeezed = value.squeeze()
    for axes in permutations(range(squeezed.ndim)):
        yield squeezed.transpose(axes).reshape(shape)


def _kind(module: str) -> str:
    """The same module of every layer."""
    return re.sub(r"\d+", "#", module)


def _parent(module: str) -> str:
    return module.rpartition(".")[0]


def _holds_matrix(module: torch.nn.Module | None) -> bool:
    return module is not None and any(item.ndim > 1 for item in module.parameters(recurse=False))
