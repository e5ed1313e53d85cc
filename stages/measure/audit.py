"""Every weight matrix of a checkpoint, looked for among an artifact's decompressed weights.

Logits cannot see every weight: on a trained classifier a linear layer of zeros left 99.2 % of the answers unchanged.
Here the bytes are compared with what they came from, on any host and without a runtime.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

SMALLEST = 1024
"""Elements; the cosine of fewer that have nothing in common strays from 0."""
COPY = 0.9
"""Cosine from which two weights of one shape are the same one: different ones of a trained model stay below 0.5."""
ONE_ROW = "token_type_embeddings.weight"
"""A table of which one utterance reads row 0 alone: converters drop the other, or add that row to the positions."""
POSITIONS = "position_embeddings.weight"
"""A table of which as many rows are read as the longest input has tokens: converters may drop the others."""


class Match(NamedTuple):
    """A matrix of the checkpoint beside its likeness among an artifact's weights.

    Attributes:
        cosine: 0 to 1. Near 0 where the likeness is all zeros or not finite, 0 where nothing stored has its shape.
        error: largest difference of an element over the matrix's largest magnitude, 0 where it is the checkpoint's to
            the bit or was folded with one rounding; 1, which zeros would give, where
            nothing stored has its shape or the likeness is not finite.
    """

    cosine: float
    error: float


def match(
    checkpoint: Mapping[str, NDArray[Any]], stored: Mapping[str, NDArray[Any]], *, positions: int
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
        positions: tokens of the longest input; rows of `POSITIONS` beyond are not compared.

    Returns:
        Matrix → its best match, of all with at least 1,024 elements that are read, `ONE_ROW` excepted. A matrix may
        not be missing, since checkpoints are saved without heads that their architecture does not have.

    Raises:
        ValueError: the checkpoint has no matrix to look for.
    """
    tensors = {name: np.asarray(value, np.float32) for name, value in checkpoint.items()}
    wanted = {name: value[:positions] if name.endswith(POSITIONS) else value for name, value in tensors.items()}
    wanted = {k: v for k, v in wanted.items() if v.ndim == 2 and v.size >= SMALLEST and not k.endswith(ONE_ROW)}
    if not wanted:
        raise ValueError(f"the checkpoint has no matrix of {SMALLEST} elements")
    matrices = [value.reshape(value.shape[-2:]) for value in stored.values() if _is_matrix(value)]
    groups, cut = _by_shape(matrices), _by_shape([value[:positions] for value in matrices])
    return {
        name: _best(value, (cut if name.endswith(POSITIONS) else groups).get(value.shape), tensors)
        for name, value in wanted.items()
    }


def _is_matrix(value: NDArray[Any]) -> bool:
    return value.ndim >= 2 and value.size == value.shape[-2] * value.shape[-1]


def _by_shape(matrices: Iterable[NDArray[Any]]) -> dict[tuple[int, ...], list[Matrix]]:
    groups: dict[tuple[int, ...], list[Matrix]] = {}
    for value in matrices:
        if value.size >= SMALLEST:
            groups.setdefault(value.shape, []).append(np.asarray(value, np.float32))
    return groups


def _best(value: Matrix, likenesses: list[Matrix] | None, tensors: Mapping[str, Matrix]) -> Match:
    if likenesses is None:
        return Match(0.0, 1.0)
    sources = [value, *_changed(value, tensors)]
    units = np.stack([_unit(likeness) for likeness in likenesses])
    cosines = units @ np.stack([_unit(source) for source in sources]).T
    # A second copy, which another signature reads, must be as good as the first.
    copies = [row for row in range(len(likenesses)) if cosines[row].max() >= COPY]
    best = int(cosines.max(axis=1).argmax())
    errors = [_error(likenesses[row], sources, int(cosines[row].argmax())) for row in (copies or [best])]
    return Match(float(np.clip(cosines[best].max(), 0, 1)), max(errors))


def _error(likeness: Matrix, sources: list[Matrix], closest: int) -> float:
    source = sources[closest]
    difference = np.abs(likeness - source)
    if closest:  # folded: the converter may have rounded once
        difference = np.maximum(difference - np.spacing(np.abs(source)), 0)
    error = float(difference.max() / max(float(np.abs(source).max()), np.finfo(np.float32).tiny))
    return error if np.isfinite(error) else 1.0


def _changed(value: Matrix, tensors: Mapping[str, Matrix]) -> Iterator[Matrix]:
    """Yield what converters may have made of a matrix."""
    for name, other in tensors.items():
        if name.endswith(ONE_ROW) and other.shape[1] == value.shape[1]:
            yield value + other[0]
        elif other.ndim == 1 and name.endswith("weight"):
            if other.size == value.shape[1]:
                yield value * other
            if other.size == value.shape[0]:
                yield value * other[:, None]


def _unit(value: NDArray[Any]) -> Matrix:
    flat = np.asarray(value, np.float32).reshape(-1)
    length = float(np.linalg.norm(flat))
    # A weight that is not finite is like no other; a NaN here would compare false with every threshold.
    return flat / np.float32(length) if 0 < length < np.inf else np.zeros_like(flat)
