"""Activation functions (MIL: `activation.py`, and `erf`)."""

# mypy: no-warn-return-any
# (arithmetic on arrays of any type is Any to mypy)
from __future__ import annotations

import numpy as np

from stages.coreml.errors import UnsupportedOp
from stages.coreml.ops._limits import axis as checked_axis
from stages.coreml.ops._special import erf as _erf
from stages.coreml.registry import Tensor, op


@op("erf")
def erf(x: Tensor) -> Tensor:
    """Gauss error function."""
    return _erf(x)


@op("relu")
def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return np.maximum(x, x.dtype.type(0))


@op("relu6")
def relu6(x: Tensor) -> Tensor:
    """min(max(x, 0), 6)."""
    return np.clip(x, x.dtype.type(0), x.dtype.type(6))


@op("clamped_relu")
def clamped_relu(x: Tensor, alpha: float, beta: float) -> Tensor:
    """min(beta, x) where x >= 0, else min(beta, alpha * x)."""
    return np.minimum(x.dtype.type(beta), np.where(x >= 0, x, x * alpha))


@op("leaky_relu")
def leaky_relu(x: Tensor, alpha: float = 0.01) -> Tensor:
    """X where x >= 0, else alpha * x."""
    return np.where(x >= 0, x, x * alpha)


@op("thresholded_relu")
def thresholded_relu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """X where x >= alpha, else 0."""
    return np.where(x >= alpha, x, x.dtype.type(0))


@op("prelu")
def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """Leaky ReLU with one slope per channel (axis 1)."""
    slope = alpha.reshape((-1,) + (1,) * (x.ndim - 2))
    return np.where(x >= 0, x, x * slope)


@op("elu")
def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """X where x > 0, else alpha * (exp(x) - 1)."""
    return np.where(x > 0, x, np.expm1(np.minimum(x, x.dtype.type(0))) * alpha)


@op("gelu")
def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    """Gaussian error linear unit, exact or one of MIL's two approximations."""
    if mode == "EXACT":
        y = _erf(x * 0.7071067811865476)
        y += 1
        y *= x
        y *= 0.5
        return y
    if mode == "TANH_APPROXIMATION":
        return x * 0.5 * (1 + np.tanh(0.7978845608028654 * (x + 0.044715 * (x * x * x))))
    if mode == "SIGMOID_APPROXIMATION":
        return x * sigmoid(x * 1.702)
    raise UnsupportedOp(f"gelu mode '{mode}'", expected="EXACT, TANH_APPROXIMATION or SIGMOID_APPROXIMATION")


@op("linear_activation")
def linear_activation(x: Tensor, alpha: float, beta: float = 0.0) -> Tensor:
    """Alpha * x + beta."""
    return x * alpha + beta


@op("scaled_tanh")
def scaled_tanh(x: Tensor, alpha: float, beta: float) -> Tensor:
    """Alpha * tanh(beta * x)."""
    return alpha * np.tanh(x * beta)


@op("sigmoid")
def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), written so that exp never overflows."""
    decay = np.exp(-np.abs(x))
    return np.where(x >= 0, x.dtype.type(1), decay) / (1 + decay)


@op("sigmoid_hard")
def sigmoid_hard(x: Tensor, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """min(max(alpha * x + beta, 0), 1)."""
    return np.clip(x * alpha + beta, x.dtype.type(0), x.dtype.type(1))


@op("silu")
def silu(x: Tensor) -> Tensor:
    """X * sigmoid(x)."""
    return x * sigmoid(x)


@op("softplus")
def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x))."""
    return np.logaddexp(x, x.dtype.type(0))


@op("softplus_parametric", matching=("alpha", "beta"))
def softplus_parametric(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """Alpha * log(1 + exp(beta * x)) per channel (axis 1)."""
    shape = (-1,) + (1,) * (x.ndim - 2)
    return alpha.reshape(shape) * np.logaddexp(x * beta.reshape(shape), x.dtype.type(0))


@op("softsign")
def softsign(x: Tensor) -> Tensor:
    """X / (1 + |x|)."""
    return x / (1 + np.abs(x))


@op("softmax")
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """exp(x - max) / sum along an axis."""
    along = checked_axis(axis, x.ndim)
    y = x - np.maximum.reduce(x, along, keepdims=True)
    np.exp(y, out=y)
    y /= np.add.reduce(y, along, keepdims=True)
    return y
