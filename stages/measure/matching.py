"""Every weight matrix of a checkpoint, looked for among an artifact's decompressed weights.

Logits cannot see every weight: on a trained classifier a linear layer of zeros left 99.2 % of the answers unchanged.
Here the bytes are compared with what they came from, on any host and without a runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.measure.rounding import Matrix, by_rows

Vector = NDArray[np.float64]
Expected = Callable[[str, Matrix, Matrix], float]
"""Name of a matrix, what is compared, and the table that this was cut from (itself, where it was not) → what rounding
on a grid of its own costs, as the Euclidean norm of the error."""

SMALLEST = 1024
"""Elements; the cosine of fewer that have nothing in common strays from 0."""
COPY = 0.9
"""Cosine from which two weights of one shape are the same one: different ones of a trained model stay below 0.5."""
TIE = 1e-6
"""Difference of cosines that fp32 cannot tell from none."""
ONE_ROW = "token_type_embeddings.weight"
"""A table of which one utterance reads row 0 alone: converters drop the other, or add that row to the positions."""
POSITIONS = ("embed_positions.weight", "position_embeddings.weight")
"""Tables of which as many rows are read as the longest input has tokens: converters may drop the others."""


class Match(NamedTuple):
    """A matrix of the checkpoint beside its likeness among an artifact's weights.

    Attributes:
        cosine: 0 to 1. Near 0 where the likeness is all zeros or not finite, 0 where nothing stored has its shape.
        error: largest difference of an element over the matrix's largest magnitude, 0 where it is the checkpoint's to
            the bit or was folded with one rounding; 1, which zeros would give, where
            nothing stored has its shape or the likeness is not finite.
        excess: Euclidean norm of the difference over what rounding is expected to cost; 0 where nothing is expected.
    """

    cosine: float
    error: float
    excess: float = 0.0


def match(
    checkpoint: Mapping[str, NDArray[Any]],
    stored: Mapping[str, NDArray[Any]],
    *,
    positions: int,
    first: int = 0,
    expected: Expected | None = None,
) -> dict[str, Match]:
    """Find every matrix of a checkpoint among an artifact's weights, by content.

    Converters rename and transform, so a matrix is compared with every stored weight of its shape, as it is and as
    converters may have changed it: row 0 of the token types added to a table, a linear layer scaled by the
    normalisation before it (columns, LayerNorm in LiteRT) or after it (rows, MobileBERT's NoNorm).

    Not seen: two matrices of one shape that changed places (query and key), and a second copy of a weight that is
    broken while the first is sound. `structure` and parity's logits are there for those.

    Args:
        checkpoint: tensors by name, as in `model.safetensors`.
        stored: fp32 weights by name, linear layers as torch has them, [out, in]; dimensions of 1 may come first.
        positions: tokens of the longest input; rows of `POSITIONS` that none of them reads are not compared.
        first: row of `POSITIONS` that the first token reads.
        expected: what rounding may cost; None where nothing was rounded.

    Returns:
        Matrix → its best match, of all with at least 1,024 elements that are read, `ONE_ROW` excepted. A matrix may
        not be missing, since checkpoints are saved without heads that their architecture does not have.

    Raises:
        ValueError: the checkpoint has no matrix to look for.
    """
    tensors = {name: np.asarray(value, np.float32) for name, value in checkpoint.items()}
    read = slice(first, first + positions)
    wanted = {name: value[read] if name.endswith(POSITIONS) else value for name, value in tensors.items()}
    wanted = {k: v for k, v in wanted.items() if v.ndim == 2 and v.size >= SMALLEST and not k.endswith(ONE_ROW)}
    if not wanted:
        raise ValueError(f"the checkpoint has no matrix of {SMALLEST} elements")
    matrices = [value.reshape(value.shape[-2:]) for value in stored.values() if _is_matrix(value)]
    groups = _by_shape(matrices)
    cut = _by_shape([value[start : start + positions] for start in sorted({0, first}) for value in matrices])
    found: dict[str, Match] = {}
    for table in (False, True):
        shapes: dict[tuple[int, ...], list[str]] = {}
        for name, value in wanted.items():
            if name.endswith(POSITIONS) is table:
                shapes.setdefault(value.shape, []).append(name)
        for shape, names in shapes.items():
            sources = [
                _Source(name, wanted[name], tensors[name], list(_changes(wanted[name], tensors))) for name in names
            ]
            likenesses = (cut if table else groups).get(shape, [])
            found |= zip(names, _matches(sources, likenesses, expected), strict=True)
    return {name: found[name] for name in wanted}


def _is_matrix(value: NDArray[Any]) -> bool:
    return value.ndim >= 2 and value.size == value.shape[-2] * value.shape[-1]


def _by_shape(matrices: Iterable[NDArray[Any]]) -> dict[tuple[int, ...], list[Matrix]]:
    groups: dict[tuple[int, ...], list[Matrix]] = {}
    for value in matrices:
        if value.size >= SMALLEST:
            groups.setdefault(value.shape, []).append(np.asarray(value, np.float32))
    return groups


@dataclass(frozen=True)
class _Change:
    """What a converter may have made of a matrix: `(value + row) * scale`."""

    row: NDArray[np.float32] | None = None
    scale: NDArray[np.float32] | None = None
    """[1, columns] or [rows, 1]."""

    def __call__(self, value: Matrix) -> Matrix:
        if self.row is not None:
            return np.asarray(value + self.row, np.float32)
        return value if self.scale is None else np.asarray(value * self.scale, np.float32)

    def of_rows(self, start: int, stop: int) -> _Change:
        """What it makes of some of the rows."""
        return self if self.scale is None or len(self.scale) == 1 else _Change(scale=self.scale[start:stop])


@dataclass(frozen=True)
class _Source:
    """A matrix that is looked for, the table it was cut from, and what it may have become; the first is itself."""

    name: str
    value: Matrix
    whole: Matrix
    changes: list[_Change]


def _changes(value: Matrix, tensors: Mapping[str, Matrix]) -> Iterator[_Change]:
    yield _Change()
    for name, other in tensors.items():
        if name.endswith(ONE_ROW) and other.shape[1] == value.shape[1]:
            yield _Change(row=other[0])
        elif other.ndim == 1 and name.endswith("weight") and not (other == 1).all():
            if other.size == value.shape[1]:
                yield _Change(scale=other[None])
            if other.size == value.shape[0]:
                yield _Change(scale=other[:, None])


def _matches(sources: list[_Source], likenesses: list[Matrix], expected: Expected | None) -> list[Match]:
    """Match the matrices of one shape; one likeness after another, so that none is copied for all of them at once."""
    if not likenesses:
        return [_missing(source, expected) for source in sources]
    moments = [_Moments.of(source.value, source.value) for source in sources]
    cosines: list[list[Vector]] = [[] for _ in sources]
    for stored in likenesses:
        likeness = np.ascontiguousarray(stored)
        own = _Moments.of(likeness, likeness)
        for source, moment, row in zip(sources, moments, cosines, strict=True):
            shared = _Moments.of(likeness, source.value)
            row.append(np.array([_cosine(change, shared, own, moment) for change in source.changes]))
    return [_best(source, likenesses, np.stack(row), expected) for source, row in zip(sources, cosines, strict=True)]


def _missing(source: _Source, expected: Expected | None) -> Match:
    lost = float(np.linalg.norm(source.value))
    return Match(
        0.0, 1.0, 0.0 if expected is None else _excess(lost, expected(source.name, source.value, source.whole))
    )


@dataclass(frozen=True)
class _Moments:
    """Sums over the elements of two matrices of one shape, from which the cosine with every change follows.

    Attributes:
        columns: of the products, down each column.
        rows: of the products, along each row.
        sums: of the first matrix alone, down each column.
    """

    columns: Vector
    rows: Vector
    sums: Vector

    @classmethod
    def of(cls, first: Matrix, second: Matrix) -> _Moments:
        columns, sums, rows = np.zeros(first.shape[1]), np.zeros(first.shape[1]), []
        for start, stop in by_rows(first):
            one, other = first[start:stop], second[start:stop]
            columns += np.einsum("ij,ij->j", one, other)
            rows.append(np.einsum("ij,ij->i", one, other))
            sums += one.sum(axis=0)
        return cls(columns, np.concatenate(rows).astype(np.float64), sums)


def _cosine(change: _Change, shared: _Moments, likeness: _Moments, source: _Moments) -> float:
    """Cosine of a likeness with a changed matrix; a likeness that is not finite is like no other."""
    with np.errstate(all="ignore"):
        if change.row is not None:
            row = change.row.astype(np.float64)
            dot = shared.columns.sum() + row @ likeness.sums
            repeated = len(source.rows) * (row @ row)
            square = source.columns.sum() + 2 * row @ source.sums + repeated
            if row @ likeness.sums / np.sqrt(repeated) > dot / np.sqrt(square):
                return 0.0  # it is that row alone, once for each token, as converters store it where it is not folded
        elif change.scale is not None:
            scale = change.scale.reshape(-1).astype(np.float64)
            across = len(change.scale) > 1
            dot = scale @ (shared.rows if across else shared.columns)
            square = scale**2 @ (source.rows if across else source.columns)
        else:
            dot, square = shared.columns.sum(), source.columns.sum()
        cosine = float(dot / np.sqrt(square * likeness.columns.sum()))
    # A NaN here would compare false with every threshold.
    return cosine if np.isfinite(cosine) else 0.0


def _best(source: _Source, likenesses: list[Matrix], cosines: NDArray[np.float64], expected: Expected | None) -> Match:
    # A second copy, which another signature reads, must be as good as the first.
    copies = [row for row in range(len(likenesses)) if cosines[row].max() >= COPY]
    best = int(cosines.max(axis=1).argmax())
    found = [_compare(likenesses[row], source, cosines[row], expected) for row in (copies or [best])]
    return Match(
        float(np.clip(cosines[best].max(), 0, 1)), max(one.error for one in found), max(one.excess for one in found)
    )


def _compare(likeness: Matrix, source: _Source, cosines: Vector, expected: Expected | None) -> Match:
    """Compare a likeness with what it is closest to; where cosines tie, with what it differs from least."""
    close = [number for number in range(len(cosines)) if cosines[number] >= cosines.max() - TIE]
    pairs = {number: _difference(likeness, source.value, source.changes[number]) for number in close}
    chosen = min(close, key=lambda number: (pairs[number][0], number))
    error, distance = pairs[chosen]
    if expected is None:
        return Match(float(cosines[chosen]), error)
    change = source.changes[chosen]
    # The rows that were cut off had a part in the range; a change by rows is of matrices that are whole.
    whole = change(source.whole) if change.scale is None or len(change.scale) == 1 else change(source.value)
    return Match(float(cosines[chosen]), error, _excess(distance, expected(source.name, whole[: len(likeness)], whole)))


def _difference(likeness: Matrix, value: Matrix, change: _Change) -> tuple[float, float]:
    """Return the worst element's difference over the largest magnitude, and the Euclidean norm of all differences."""
    worst, largest, square = np.float32(0), np.finfo(np.float32).tiny, 0.0
    folded = change.row is not None or change.scale is not None
    with np.errstate(all="ignore"):
        for start, stop in by_rows(value):
            source = change.of_rows(start, stop)(value[start:stop])
            difference = np.abs(likeness[start:stop] - source)
            square += float(np.einsum("ij,ij->", difference, difference))
            magnitude = np.abs(source)
            if folded:  # the converter may have rounded once
                difference = np.maximum(difference - np.spacing(magnitude), 0)
            worst, largest = np.maximum(worst, difference.max()), np.maximum(largest, magnitude.max())
        error = float(worst / largest)
    # What is not finite is as far away as zeros are.
    return (
        (error, float(np.sqrt(square))) if np.isfinite([error, square]).all() else (1.0, float(np.linalg.norm(value)))
    )


def _excess(distance: float, expected: float) -> float:
    return distance / expected if expected > 0 else float(distance > 0) * float(np.finfo(np.float32).max)
