"""Logits of many classes, of which each item keeps its likeliest and the sum of the rest.

All logits are kept where there are no more than `LARGE` classes. Beyond, an item has `TOP` columns for its likeliest
classes, the right one among them, in the order of their numbers, and one for all others together: the logarithm of
the sum of their exponentials. Probabilities of kept classes stay what they were, so that NLL and perplexity lose
nothing, and an artifact's answer is taken from all of its logits. KL(reference ‖ artifact) over these columns is never
above the true one, and below it by the reference's probability of the rest times the divergence within the rest
(chain rule: Cover & Thomas, Elements of Information Theory, section 2.5). Largest and mean differences, cosine and
spread of logits are those of the columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact
from stages.core.errors import ArtifactError

LARGE = 4096
TOP = 512
WHOLE, CUT = "test_logits.npy", "test_logits.npz"
"""What a checkpoint's logits of the test split lie in: of all classes, or of the likeliest."""


class Logits(NamedTuple):
    """Logits as they are kept.

    Attributes:
        values: float32 [items, columns].
        classes: int32 [items, columns], the class of each column, and in the last how many classes there are; None
            where a column is a class.
    """

    values: NDArray[np.float32]
    classes: NDArray[np.int32] | None = None


def keep(logits: NDArray[np.float32], wanted: NDArray[np.int64]) -> Logits:
    """Keep what is compared later.

    Args:
        logits: [items, classes]
        wanted: [items] the right class, -1 where it is not known.
    """
    count = logits.shape[1]
    if count <= LARGE:
        return Logits(logits)
    classes = np.argpartition(logits, count - TOP, axis=1)[:, count - TOP :]
    left_out = np.flatnonzero((wanted >= 0) & (classes != wanted[:, None]).all(axis=1))
    least = np.take_along_axis(logits[left_out], classes[left_out], axis=1).argmin(axis=1)
    classes[left_out, least] = wanted[left_out]
    classes.sort(axis=1)
    numbered = np.concatenate([classes, np.full((len(logits), 1), count)], axis=1).astype(np.int32)
    return Logits(columns(logits, numbered), numbered)


def columns(logits: NDArray[np.float32], classes: NDArray[np.int32] | None) -> NDArray[np.float32]:
    """Return logits of all classes in the columns that others are kept in.

    Args:
        logits: [items, classes]
        classes: as in `Logits`, of the same items.

    Returns:
        float32 [items, columns]; the last of an item is NaN where one of its logits is not finite.
    """
    if classes is None or not len(logits):
        return logits if classes is None else np.empty((0, classes.shape[1]), np.float32)
    kept, largest = classes[:, :-1], logits.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        exponents = np.exp(logits - largest)
    np.put_along_axis(exponents, kept, 0, axis=1)
    with np.errstate(divide="ignore"):
        rest = largest[:, 0] + np.log(exponents.sum(axis=1, dtype=np.float64))
    # What underflows has no logarithm, and no weight either.
    rest = np.where(np.isfinite(logits).all(axis=1), np.maximum(rest, largest[:, 0] - 87), np.nan)
    return np.concatenate([np.take_along_axis(logits, kept, axis=1), rest[:, None].astype(np.float32)], axis=1)


def best(values: NDArray[Any], classes: NDArray[np.int32] | None) -> NDArray[np.int64]:
    """Return the likeliest class of each item of `Logits`: int64 [items]."""
    if classes is None:
        return np.asarray(values.argmax(axis=-1), np.int64)
    at = values[:, :-1].argmax(axis=1)
    return np.take_along_axis(classes, at[:, None], axis=1)[:, 0].astype(np.int64)


def arrays(logits: Logits) -> dict[str, NDArray[Any]]:
    """Name what a file holds of logits."""
    return {"logits": logits.values} | ({} if logits.classes is None else {"classes": logits.classes})


def of(split: Mapping[str, NDArray[Any]]) -> Logits:
    """Return the logits that a file of the reference holds."""
    return Logits(split["logits"], split.get("classes"))


def width(split: Mapping[str, NDArray[Any]]) -> int:
    """Return how many classes an artifact has a logit for."""
    classes = split.get("classes")
    return int(split["logits"].shape[1] if classes is None else classes[0, -1])


def save(logits: Logits, directory: Path) -> None:
    """Write a checkpoint's logits of the test split into an existing directory."""
    if logits.classes is None:
        np.save(directory / WHOLE, logits.values)
    else:
        artifact.write_arrays(directory / CUT, arrays(logits))


def load(directory: Path) -> Logits:
    """Read a checkpoint's logits of the test split.

    Raises:
        ArtifactError: there are none.
    """
    if (directory / CUT).is_file():
        return of(artifact.read_arrays(directory / CUT))
    if not (directory / WHOLE).is_file():
        raise ArtifactError(f"'{directory}' has no {WHOLE}", next_step="run `dvc repro`")
    return Logits(np.load(directory / WHOLE))
