"""Read which test utterances a variant answered, and which of them rightly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact
from stages.core.splits import UNKNOWN
from stages.schema.layout import place


def read_answers(build: Path, key: str) -> NDArray[np.int64] | None:
    """Return a variant's class of every test utterance; None where it was not run or a logit is not finite."""
    logits: NDArray[Any] | None = artifact.read_arrays(place(build, "parity", variant=key) / "outputs.npz").get("test")
    return None if logits is None or not np.isfinite(logits).all() else logits.argmax(axis=-1)


def read_labels(build: Path, compression: str) -> NDArray[np.int64]:
    """Return the right answer of every test utterance, `UNKNOWN` where there is none."""
    return artifact.read_arrays(place(build, "reference", compression=compression) / "test.npz")["labels"]


def right(answers: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether each labelled utterance was answered rightly."""
    return np.asarray((answers == labels)[labels != UNKNOWN])
