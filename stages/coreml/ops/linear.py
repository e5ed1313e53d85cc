"""Matrix products and attention (MIL: `linear.py`, `transformers.py`)."""

# mypy: no-warn-return-any
# (arithmetic on arrays of any type is Any to mypy)
from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from stages.coreml.dtypes import DType
from stages.coreml.errors import Mismatch, UnsupportedOp
from stages.coreml.ops._limits import allocate
from stages.coreml.ops.activation import softmax
from stages.coreml.registry import DTypes, Tensor, Tensors, op

FEW = 32
"""Queries at once: those of one token, of all heads that share a key."""
FEWEST = 4
"""Queries so few that reading the keys anew for each takes less time than a product of matrices."""


def _product_type(types: DTypes, constants: Mapping[str, Any]) -> DType:
    x, y = types["x"], types["y"]
    if x is not y and ("x" in constants) == ("y" in constants):
        raise Mismatch(f"operands of types '{x.name}' and '{y.name}'", expected="one type")
    return _times_constant(y, x) if "x" in constants else _times_constant(x, y)


def _times_constant(computed: DType, constant: DType) -> DType:
    """Since iOS 17 a constant may have another type than what it multiplies, which gives the result's.

    Raises:
        UnsupportedOp: an integer times a constant that may have fractions: MIL does not say what becomes of them.
    """
    if computed is not constant and computed.kind != "float":
        raise UnsupportedOp(
            f"'{computed.name}' times a constant of '{constant.name}'", expected="a constant of its type"
        )
    return computed


@op("matmul", returns=_product_type, arithmetic="accumulates")
def matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """Batched matrix product, either operand transposed in its last two axes first."""
    if x.dtype != y.dtype:
        x, y = x.astype(np.float32), y.astype(np.float32)
    a = np.swapaxes(x, -1, -2) if transpose_x and x.ndim > 1 else x
    b = np.swapaxes(y, -1, -2) if transpose_y and y.ndim > 1 else y
    _check_product(a, b)
    return np.matmul(a, b)


def _check_product(a: Tensor, b: Tensor) -> None:
    if a.size and b.size and a.size * b.size > 1 << 34:
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        allocate((*lead, a.shape[-2] if a.ndim > 1 else 1, b.shape[-1] if b.ndim > 1 else 1))


@op(
    "linear",
    returns=lambda types, _: _times_constant(types["x"], types["weight"]),
    arithmetic="accumulates",
    matching=("weight", "bias"),
)
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """X times weight [out, in] transposed, plus bias [out]."""
    if weight.ndim != 2 or x.shape[-1] != weight.shape[1] or (bias is not None and bias.shape != weight.shape[:1]):
        raise Mismatch(f"linear of {x.shape} with weight {weight.shape}")
    if weight.dtype != x.dtype:
        weight, bias = weight.astype(x.dtype), None if bias is None else bias.astype(x.dtype)
    # One product of two matrices instead of a batch of them: BLAS runs it several times faster.
    y = (x.reshape(-1, x.shape[-1]) @ weight.T).reshape(*x.shape[:-1], weight.shape[0])
    if bias is not None:
        y += bias
    return y


@op("einsum", returns="values", arithmetic="accumulates")
def einsum(values: Tensors, equation: str) -> Tensor:
    """Einstein summation over two operands with explicit output."""
    match = re.fullmatch(r"([a-zA-Z]+),([a-zA-Z]+)->([a-zA-Z]+)", equation.replace(" ", ""))
    if match is None or len(values) != 2:
        raise UnsupportedOp(f"einsum '{equation}' of {len(values)} operands", expected="two operands and '->'")
    sizes: dict[str, int] = {}
    for letters, value in zip(match.groups()[:2], values, strict=True):
        if len(letters) != value.ndim:
            raise Mismatch(f"einsum '{equation}' of an operand of rank {value.ndim}")
        sizes.update(
            {letter: max(size, sizes.get(letter, 1)) for letter, size in zip(letters, value.shape, strict=True)}
        )
    allocate(tuple(sizes[letter] for letter in match.group(3)))
    return np.einsum(equation, *values, optimize=True)


@op("scaled_dot_product_attention", returns="query", arithmetic="accumulates", matching=("query", "key", "value"))
def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """softmax(query key^T / sqrt(width) + mask) value; a bool mask says what may be attended to."""
    if query.shape[-2] <= FEWEST and key.shape[:-2] == query.shape[:-2]:
        scores = np.matmul(key[..., None, :, :], query[..., None])[..., 0]  # a vector each
    elif query.shape[-2] <= FEW:
        # BLAS runs long times short-and-wide several times faster than the same product turned.
        scores = np.ascontiguousarray(np.swapaxes(matmul(key, query, transpose_y=True), -1, -2))
    else:
        scores = matmul(query, key, transpose_y=True)
    scores *= query.dtype.type(1 / math.sqrt(query.shape[-1]))
    if attn_mask is not None:
        scores = np.where(attn_mask, scores, -np.inf) if attn_mask.dtype.kind == "b" else scores + attn_mask
    return matmul(softmax(scores.astype(query.dtype, copy=False)), value)
