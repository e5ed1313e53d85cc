"""A stored tensor opened for damage, whatever number format it is stored in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MISPLACED = 16
"""Levels by which a zero point is off."""


@dataclass(eq=False)
class Tensor:
    """One constant of an artifact; an editor writes it back.

    Attributes:
        name: in the file.
        levels: stored numbers: floats, integers, or indices into `table`.
        scale: of integers: on each axis of `levels` one for all, one each, or one per block.
        zero: point of integers, likewise.
        table: entries that indices stand for, [entries]; or a table per block, [blocks of each axis, entries, 1].
        mask: of a sparse tensor, nonzero where it holds anything but zero.
        turned: whether a matrix is stored [in, out].
        bits: of a stored number.
    """

    name: str
    levels: Array
    scale: Array | None = None
    zero: Array | None = None
    table: Array | None = None
    mask: Array | None = None
    turned: bool = False
    bits: int = 32

    @property
    def matrix(self) -> Array:
        """A view of the stored numbers, [out, in]."""
        return self.levels.swapaxes(-1, -2) if self.turned else self.levels

    @property
    def value(self) -> Array:
        """Decompressed, fp32, [out, in]."""
        if self.table is not None:
            chosen = self.levels[..., None].astype(np.intp)
            found = np.take_along_axis(self._entries(self.table), chosen, axis=-1)[..., 0]
        elif self.scale is not None:
            found = (self.levels.astype(np.float32) - self._per_element(self.zero)) * self._per_element(self.scale)
        else:
            found = self.levels.astype(np.float32)
        found = np.asarray(found if self.mask is None else np.where(self.mask, found, np.float32(0)))
        return found.swapaxes(-1, -2) if self.turned and found.ndim > 1 else found

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
            scale, zero = self._per_element(self.scale), self._per_element(self.zero)
            self.levels[...] = np.clip(np.rint(wide / scale) + zero, low, high)
        else:
            self.levels[...] = wide

    def _per_element(self, values: Array | None) -> Array:
        """Repeat what a block has in common over its elements, so that it broadcasts to `levels`."""
        found = np.zeros((), np.float32) if values is None else values.astype(np.float32)
        for axis, size in enumerate(found.shape[: self.levels.ndim]):
            width = self.levels.shape[axis]
            if size not in (1, width):
                length, rest = divmod(width, size)
                # Of a width that blocks do not divide the last one is cut short; they are powers of two.
                found = np.repeat(found, 1 << length.bit_length() if rest else length, axis)
                found = np.take(found, range(width), axis)
        return found

    def _entries(self, table: Array) -> Array:
        """Return the table of each element, fp32 [*levels.shape, entries]."""
        if table.ndim == 1:
            return np.broadcast_to(table.astype(np.float32), (*self.levels.shape, table.size))
        return np.broadcast_to(self._per_element(table[..., 0]), (*self.levels.shape, table.shape[-2]))

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
