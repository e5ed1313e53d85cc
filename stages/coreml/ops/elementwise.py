"""Arithmetic, comparison and logic, element by element with numpy's broadcasting (MIL: `elementwise_binary/unary`)."""

# mypy: no-warn-return-any
# (arithmetic on arrays of any type is Any to mypy)
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stages.coreml import dtypes
from stages.coreml.dtypes import DType
from stages.coreml.ops._limits import broadcast
from stages.coreml.registry import Tensor, op


def _pair(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def apply(x: Tensor, y: Tensor) -> Tensor:
        broadcast(x, y)
        return function(x, y)

    return apply


def _divide(x: Tensor, y: Tensor) -> Tensor:
    """Divide; integers truncate towards zero, as Core ML's `real_div` on integers does."""
    if x.dtype.kind == "f":
        return np.divide(x, y)
    quotient: Tensor = np.trunc(np.divide(x, y, dtype=np.float64))
    return np.where(y == 0, 0, quotient).astype(x.dtype)


_ARITHMETIC: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "real_div": _divide,
    "floor_div": np.floor_divide,
    "mod": np.mod,
    "pow": np.power,
    "maximum": np.maximum,
    "minimum": np.minimum,
}
_COMPARISONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "equal": np.equal,
    "not_equal": np.not_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
}
_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": np.abs,
    "acos": np.arccos,
    "asin": np.arcsin,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "ceil": np.ceil,
    "cos": np.cos,
    "cosh": np.cosh,
    "exp": np.exp,
    "exp2": np.exp2,
    "floor": np.floor,
    "round": np.rint,
    "sign": np.sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "square": np.square,
    "tan": np.tan,
    "tanh": np.tanh,
}


def _single(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def apply(x: Tensor) -> Tensor:
        return function(x)

    return apply


for _name, _binary in _ARITHMETIC.items():
    op(_name, matching=("x", "y"))(_pair(_binary))
for _name, _binary in _COMPARISONS.items():
    op(_name, returns=dtypes.BOOL, matching=("x", "y"))(_pair(_binary))
for _name, _unary in _UNARY.items():
    op(_name)(_single(_unary))


@op("logical_not", returns=dtypes.BOOL)
def logical_not(x: Tensor) -> Tensor:
    """Negate."""
    return np.logical_not(x)


@op("identity", arithmetic="moves")
def identity(x: Tensor) -> Tensor:
    """Return x."""
    return x


@op("rsqrt")
def rsqrt(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    """1 / sqrt(x + epsilon)."""
    return np.reciprocal(np.sqrt(x + x.dtype.type(epsilon)))


@op("inverse")
def inverse(x: Tensor, epsilon: float = 1e-4) -> Tensor:
    """1 / (x + epsilon)."""
    return np.reciprocal(x + x.dtype.type(epsilon))


@op("log")
def log(x: Tensor, epsilon: float = 1e-45) -> Tensor:
    """Natural logarithm of x + epsilon."""
    return np.log(x + x.dtype.type(epsilon))


@op("clip")
def clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    """Limit to [alpha, beta]; integers too, since iOS 17."""
    return np.clip(x, x.dtype.type(alpha), x.dtype.type(beta))


@op("threshold")
def threshold(x: Tensor, alpha: float) -> Tensor:
    """max(x, alpha)."""
    return np.maximum(x, x.dtype.type(alpha))


def _cast_type(_types: Mapping[str, DType], constants: Mapping[str, Any]) -> DType:
    return dtypes.from_name(constants["dtype"])


@op("cast", returns=_cast_type)
def cast(x: Tensor, dtype: str) -> Tensor:
    """Convert; floating point to integer truncates towards zero."""
    return x.astype(dtypes.from_name(dtype).carrier, copy=False)


@op("select", returns="a", arithmetic="moves", matching=("a", "b"))
def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Take a where cond holds, else b."""
    broadcast(cond, a, b)
    return np.where(cond, a, b)
