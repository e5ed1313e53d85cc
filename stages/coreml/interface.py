"""What a model's description promises of its inputs: names, element types and the shapes it may be called with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.coreml.dtypes import Array
from stages.coreml.errors import Mismatch, UnsupportedOp
from stages.coreml.ir import Function
from stages.coreml.values import StateType, TensorType


@dataclass(frozen=True)
class Input:
    """An input and the shapes it accepts: one of several, or a range per axis (upper bound None: open)."""

    name: str
    type: TensorType
    shapes: tuple[tuple[int, ...], ...] | None
    ranges: tuple[tuple[int, int | None], ...] | None

    def check(self, value: Array) -> Array:
        """Return the value in its declared type.

        Integers convert where every value fits, floating point to floating point; nothing else.

        Raises:
            Mismatch: a shape the model does not accept, or another kind of number.
        """
        array = np.asarray(value)
        if not self.type.admits(array.shape) or not self._accepts(array.shape):
            raise Mismatch(f"input '{self.name}' has shape {array.shape}", expected=self.expected())
        target = self.type.dtype
        integers = array.dtype.kind in "iu" and target.kind in ("int", "uint")
        if not integers and array.dtype.kind != target.carrier.kind:
            raise Mismatch(f"input '{self.name}' is {array.dtype}", expected=f"'{target.name}'")
        cast = array.astype(target.carrier)
        if integers and not np.array_equal(cast, array):
            raise Mismatch(f"input '{self.name}' holds values that do not fit '{target.name}'")
        return cast

    def _accepts(self, shape: tuple[int, ...]) -> bool:
        if self.shapes is not None:
            return shape in self.shapes
        if self.ranges is not None:
            return len(shape) == len(self.ranges) and all(
                low <= size and (high is None or size <= high)
                for size, (low, high) in zip(shape, self.ranges, strict=True)
            )
        return True

    def expected(self) -> str:
        """Say which shapes are accepted."""
        if self.shapes is not None:
            return f"one of {', '.join(map(str, self.shapes))}"
        return f"sizes within {self.ranges}" if self.ranges is not None else f"'{self.type}'"


def read_inputs(function: Function, features: Mapping[str, Any]) -> tuple[Input, ...]:
    """Join a function's inputs with the features that describe them.

    Raises:
        UnsupportedOp: images and other inputs that are no tensors.
        Mismatch: program and description name different inputs.
    """
    tensors = {item.name: item.type for item in function.inputs if not isinstance(item.type, StateType)}
    if set(tensors) != set(features):
        raise Mismatch(f"the program takes {sorted(tensors)}", expected=f"{sorted(features)}, as described")
    return tuple(_input(name, kind, features[name]) for name, kind in tensors.items())


def _input(name: str, kind: Any, feature: Any) -> Input:
    if not isinstance(kind, TensorType) or feature.type.WhichOneof("Type") != "multiArrayType":
        raise UnsupportedOp(f"input '{name}' is a {feature.type.WhichOneof('Type')}", expected="a multi-array")
    array = feature.type.multiArrayType
    flexible = array.WhichOneof("ShapeFlexibility")
    if flexible == "enumeratedShapes":
        shapes = tuple(tuple(int(size) for size in item.shape) for item in array.enumeratedShapes.shapes)
        return Input(name, kind, shapes, None)
    if flexible == "shapeRange":
        bounds = [(int(size.lowerBound), int(size.upperBound)) for size in array.shapeRange.sizeRanges]
        return Input(name, kind, None, tuple((low, None if high < 0 else high) for low, high in bounds))
    fixed = tuple(int(size) for size in array.shape)
    # A scalar input of the program is described as a vector of one element.
    return Input(name, kind, (fixed,) if kind.shape else None, None)
