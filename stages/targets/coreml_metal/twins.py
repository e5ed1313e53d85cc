"""Tensors of a MIL program beside their twins, which hold the same numbers with their axes in another order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Axes = tuple[tuple[int, ...], ...]
"""Per axis of a twin: the axes of its original that it holds, the slowest first. One that holds none has size 1."""


@dataclass(frozen=True)
class Twin:
    """A tensor with its axes in another order."""

    value: Any
    axes: Axes

    def place(self, axis: int) -> int | None:
        """Where the original's axis is; None if it shares its place with others."""
        return self.axes.index((axis,)) if (axis,) in self.axes else None

    @property
    def order(self) -> list[int]:
        """The original's axes in the order of the twin's."""
        return [axis for group in self.axes for axis in group]

    @property
    def apart(self) -> bool:
        """Whether each axis of the original has a place of its own."""
        return all(len(group) < 2 for group in self.axes)

    def renamed(self, value: Any, names: dict[int, int]) -> Twin:
        """Call the original's axes by other numbers; those that get none are of size 1 and gone."""
        return Twin(value, tuple(tuple(names[axis] for axis in group if axis in names) for group in self.axes))


class Twins:
    """The twins of a block's tensors, and how to come from one to the other."""

    def __init__(self, block: Any) -> None:
        """Begin without any."""
        from coremltools.converters.mil import Builder

        self._mb, self._block = Builder, block
        self._found: dict[Any, Twin] = {}
        self._replaced: set[Any] = set()
        self._constants: dict[tuple[Any, Axes], Any] = {}

    def __contains__(self, value: Any) -> bool:
        """Whether a tensor has a twin."""
        return value in self._found

    def __getitem__(self, value: Any) -> Twin:
        """Return a tensor's twin."""
        return self._found[value]

    def replace(self, value: Any, twin: Twin) -> None:
        """Let a twin stand for a tensor that is not to be computed any more."""
        self._found[value] = twin
        self._replaced.add(value)

    def original(self, value: Any, reader: Any) -> Any:
        """Bring a tensor back from its twin, for the reader and all after it."""
        if value not in self._replaced:
            return value
        self.separated(value, reader)
        twin = self._found[value]
        if value in self._block.outputs:
            twin.value.name = f"{value.name}_channels_first"
        units = [place for place, group in enumerate(twin.axes) if not group]
        found, name = twin.value, f"{value.name}_sequence"
        if units:
            found = self._mb.squeeze(x=found, axes=units, name=name, before_op=reader)
        if twin.order != sorted(twin.order):
            order = [twin.order.index(axis) for axis in range(value.rank)]
            found = self._mb.transpose(x=found, perm=order, name=name, before_op=reader)
        self._block.replace_uses_of_var_after_op(found.op, value, found, no_check_var_types=True)
        self._found[found] = twin
        self._replaced.discard(value)
        return found

    def arranged(self, value: Any, axes: Axes, reader: Any) -> Any:
        """Return a tensor with its axes, which may be the last of those named, in a certain order."""
        twin = self.separated(value, reader) if all(len(group) < 2 for group in axes) else self._found.get(value)
        if twin is not None and twin.axes == axes:
            return twin.value
        order = [axis for group in axes for axis in group]
        missing = list(range(len(order) - value.rank))
        units = [place for place, group in enumerate(axes) if not group]
        if value.val is not None:
            array = np.expand_dims(np.asarray(value.val), missing).transpose(order)
            return self._constant(value, axes, np.expand_dims(array, units))
        found, name = self.original(value, reader), f"{value.name}_channels_first"
        if missing:
            found = self._mb.expand_dims(x=found, axes=missing, name=name, before_op=reader)
        if order != sorted(order):
            found = self._mb.transpose(x=found, perm=order, name=name, before_op=reader)
        if units:
            found = self._mb.expand_dims(x=found, axes=units, name=name, before_op=reader)
        if not missing:
            self._found[value] = Twin(found, axes)
        return found

    def separated(self, value: Any, reader: Any) -> Twin | None:
        """Return the twin with each axis at a place of its own."""
        twin = self._found.get(value)
        if twin is None or twin.apart:
            return twin
        shape = [size_of(value, axis) for axis in twin.order]
        found = self._mb.reshape(x=twin.value, shape=shape, name=value.name, before_op=reader)
        self._found[value] = Twin(found, tuple((axis,) for axis in twin.order))
        return self._found[value]

    def _constant(self, value: Any, axes: Axes, array: Any) -> Any:
        """Return a constant in another shape under its name; once, however often it is read."""
        key = value, axes
        if key not in self._constants:
            first = self._block.operations[0]
            self._constants[key] = self._mb.const(val=array, name=value.name, before_op=first)
        return self._constants[key]


def known(*sizes: Any) -> bool:
    """Whether sizes are numbers, the same at every length."""
    return all(isinstance(size, int | np.integer) for size in sizes)


def size_of(value: Any, axis: int) -> int:
    """Size of an axis as `reshape` takes it: there is one text, and how many tokens follows from the rest."""
    size = value.shape[axis]
    return int(size) if known(size) else (-1 if axis else 1)
