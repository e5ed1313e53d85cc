"""A stored tensor opened for damage, whatever number format it is stored in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from stages.targets.levels import Array, Stored

MISPLACED = 16
"""Levels by which a zero point is off."""


class Tensor(Stored):
    """One constant of an artifact, whose parts a fault changes in place; an editor writes them back."""

    @classmethod
    def of(cls, stored: Stored) -> Tensor:
        """Open what a target reads; scales and zero points that several weights share become each one's own."""
        shared = {part: getattr(stored, part) for part in ("scale", "zero")}
        own = {part: value.copy() for part, value in shared.items() if value is not None}
        return cls(**{**vars(stored), **own})

    def store(self, value: Array, rows: Any = ...) -> None:
        """Store other values, rounded to what the tensor's own scale or table can express.

        Args:
            value: [out, in], or what is to stand at `rows`.
            rows: index into the first axis; all by default.
        """
        wanted = self.value.copy()
        wanted[rows] = value
        wide = wanted.swapaxes(-1, -2) if self.turned and wanted.ndim > 1 else wanted
        if self.table is not None:
            self.levels[...] = np.abs(wide[..., None] - self._entries(self.table)).argmin(axis=-1)
        elif self.scale is not None:
            signed = self.levels.dtype.kind == "i"
            low, high = (-(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1) if signed else (0, 2**self.bits - 1)
            zero = 0 if self.zero is None else self._per_element(self.zero)
            self.levels[...] = np.clip(np.rint(wide / self._per_element(self.scale)) + zero, low, high)
        else:
            self.levels[...] = wide

    def exchange(self, other: Tensor) -> None:
        """Change places with a tensor of the same shape, scales and tables included."""
        for name in ("levels", "scale", "zero", "table", "mask"):
            mine, theirs = getattr(self, name), getattr(other, name)
            setattr(self, name, theirs)
            setattr(other, name, mine)


class Editor(Protocol):
    """An artifact opened for damage."""

    def tensors(self) -> Iterable[Tensor]:
        """List every stored float tensor, scalars too; each once, however many operators read it."""
        ...

    def replace_operator(self, others: Mapping[str, str]) -> bool:
        """Turn every operator of a type into one of another; whether there was any."""
        ...

    def set_epsilon(self, value: float) -> None:
        """Change the epsilon of every normalisation."""
        ...

    def misplace_grid(self) -> bool:
        """Let an activation's integers cover another range than it has; whether there is one."""
        ...

    def tamper(self, kind: str) -> bool:
        """Do to the file what `hidden.WHAT` or `decoding.WHAT` says of a kind; whether format and file allow it."""
        ...

    def save(self) -> None:
        """Write the artifact back in place."""
        ...


def nearest(tensors: Iterable[Tensor], source: Array) -> Tensor:
    """Return the tensor whose content comes closest to a matrix of the checkpoint.

    Raises:
        LookupError: none has its shape, leading ones and rows beyond the longest input aside.
    """

    def likeness(tensor: Tensor) -> float:
        value = tensor.value
        value = value.reshape(value.shape[-source.ndim :])
        wanted = source[: len(value)]
        lengths = float(np.linalg.norm(value)) * float(np.linalg.norm(wanted))
        return float(value.reshape(-1) @ wanted.reshape(-1)) / lengths if lengths else 0.0

    fitting = [tensor for tensor in tensors if _fits(tensor.value.shape, source.shape)]
    if not fitting:
        raise LookupError(f"no stored tensor has shape {list(source.shape)}")
    return max(fitting, key=likeness)


def _fits(stored: tuple[int, ...], source: tuple[int, ...]) -> bool:
    ones, shape = stored[: len(stored) - len(source)], stored[len(stored) - len(source) :]
    if len(shape) != len(source) or any(size != 1 for size in ones):
        return False
    return shape[1:] == source[1:] and shape[0] <= source[0]
