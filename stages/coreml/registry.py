"""The table of operations: a typed Python function per MIL operation, its signature read from its annotations."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stages.coreml.dtypes import Array, DType
from stages.coreml.errors import Mismatch

Tensor = Array
Tensors = list[Array]
Ints = tuple[int, ...]
Bools = tuple[bool, ...]
Labels = list[Any]


@dataclass(frozen=True)
class TensorList:
    """The value of a MIL list.

    Attributes:
        elements: None where not written yet and of a shape only known when written.
        dynamic: whether it grows.
        blank: what an element is before it is written.
    """

    elements: tuple[Array | None, ...]
    dynamic: bool
    blank: Array | None


Arithmetic = Literal["moves", "steps", "accumulates"]
"""moves: outputs are values of the inputs, nothing is rounded. steps: in `native` mode every numpy operation rounds to
fp16. accumulates: sums in fp32 and rounds once, in every mode."""

DTypes = Mapping[str, DType]
Result = str | DType | Callable[[DTypes, Mapping[str, Any]], DType] | None
"""How an output's type follows: a parameter's name, a fixed type, or a function of types and constant arguments."""


@dataclass(frozen=True)
class Parameter:
    """One argument of an operation."""

    kind: Any
    required: bool


@dataclass(frozen=True)
class Op:
    """An operation the executor can run."""

    name: str
    function: Callable[..., Any]
    parameters: Mapping[str, Parameter]
    returns: tuple[Result, ...]
    arithmetic: Arithmetic
    matching: tuple[str, ...]


OPS: dict[str, Op] = {}


def op(
    *names: str,
    returns: Result | tuple[Result, ...] = "x",
    arithmetic: Arithmetic = "steps",
    matching: tuple[str, ...] = (),
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function under MIL names.

    Args:
        names: MIL operation types.
        returns: type of each output; the last one repeats.
        arithmetic: how values round in `native` mode.
        matching: parameters that must be declared with the same element type (since iOS 17, weights need not
            have the type of what they multiply).
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        rules = returns if isinstance(returns, tuple) else (returns,)
        parameters = _parameters(function)
        for name in names:
            OPS[name] = Op(name, function, parameters, rules, arithmetic, matching)
        return function

    return register


def _parameters(function: Callable[..., Any]) -> dict[str, Parameter]:
    hints = typing.get_type_hints(function)
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        kind = hints[name]
        if typing.get_origin(kind) in (types.UnionType, typing.Union):
            kind = next(part for part in typing.get_args(kind) if part is not types.NoneType)
        if kind not in _CONVERSIONS:
            raise TypeError(f"{function.__name__}({name}): no conversion to {kind}")
        found[name] = Parameter(kind, parameter.default is inspect.Parameter.empty)
    return found


def convert(kind: Any, value: Any) -> Any:
    """Convert an argument to what the operation's annotation asks for.

    Raises:
        Mismatch: it is of another kind, or not a single value where one is needed.
    """
    return _CONVERSIONS[kind](value)


def _tensor(value: Any) -> Tensor:
    if not isinstance(value, np.ndarray):
        raise Mismatch(f"a {type(value).__name__} argument", expected="a tensor")
    return value


def _single(value: Any, kinds: str, wanted: str) -> Any:
    if not isinstance(value, np.ndarray) or value.size != 1 or value.dtype.kind not in kinds:
        raise Mismatch(f"argument {value!r:.60}", expected=f"one {wanted}")
    return value.item()


def _several(value: Any, kinds: str, wanted: str) -> Any:
    if not isinstance(value, np.ndarray) or value.ndim > 1 or value.dtype.kind not in kinds:
        raise Mismatch(f"argument {value!r:.60}", expected=f"a list of {wanted}")
    return tuple(value.reshape(-1).tolist())


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Mismatch(f"argument {value!r:.60}", expected="a string")
    return value


def _list(value: Any) -> TensorList:
    if not isinstance(value, TensorList):
        raise Mismatch(f"a {type(value).__name__} argument", expected="a list")
    return value


def _labels(value: Any) -> Labels:
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.ndim == 1:
        return list(value.tolist())
    if isinstance(value, list):
        return [item.item() if isinstance(item, np.ndarray) and item.size == 1 else item for item in value]
    raise Mismatch(f"argument {value!r:.60}", expected="a list of labels")


_CONVERSIONS: dict[Any, Callable[[Any], Any]] = {
    Tensor: _tensor,
    Tensors: lambda value: [_tensor(item) for item in value],
    int: lambda value: _single(value, "iu", "integer"),
    float: lambda value: float(_single(value, "fiu", "number")),
    bool: lambda value: _single(value, "b", "bool"),
    str: _text,
    TensorList: _list,
    Ints: lambda value: _several(value, "iu", "integers"),
    Bools: lambda value: _several(value, "b", "bools"),
    Labels: _labels,
}
