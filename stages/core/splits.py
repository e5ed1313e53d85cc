"""Read a split that `prepare` wrote, or choose some of its rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.core.artifact import read_json
from stages.core.errors import ArtifactError

UNKNOWN = -1
"""The class of an item where nobody knows it."""
CANARIES = "canaries.json"
"""Beside the splits, where there are secrets in train."""


class Canary(NamedTuple):
    """A made-up secret in train.

    Attributes:
        before: what stands before the secret.
        secret: digits, and nothing that could be guessed.
        repeats: how often the text was put into train; 0 of one that no model saw, for comparison.
    """

    before: str
    secret: str
    repeats: int

    @property
    def text(self) -> str:
        """Return the text that a model may have seen."""
        return f"{self.before}{self.secret}"


class Split(NamedTuple):
    """A split's utterances.

    Attributes:
        texts: n utterances.
        labels: n labels as they lie in the file, whatever a task reads in them.
    """

    texts: list[str]
    labels: list[str | None]


def read_labels(data: Path) -> list[str]:
    """Read the label names of a data set; the index is the class id."""
    return [str(name) for name in read_json(data / "labels.json")]


def read_canaries(data: Path) -> list[Canary]:
    """Read the secrets that stand in train: none where there are none."""
    path = data / CANARIES
    return [Canary(**row) for row in read_json(path)] if path.is_file() else []


def read_split(data: Path, name: str) -> Split:
    """Read a split.

    Args:
        data: output of `prepare`.
        name: train, validation, test, calibration or probe.

    Raises:
        ArtifactError: the file is missing, not JSON Lines or empty.
    """
    path = data / f"{name}.jsonl"
    try:
        # Not splitlines(): JSON strings may hold U+2028, which is no end of line in JSON Lines.
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        split = Split([str(row["text"]) for row in rows], [_label(row["label"]) for row in rows])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"cannot read '{path}': {error}", next_step="run `dvc repro prepare`") from error
    if not split.texts:
        raise ArtifactError(f"'{path}' is empty", next_step="run `dvc repro prepare`")
    return split


def spread(total: int, size: int) -> NDArray[np.int64]:
    """Choose rows evenly spaced over a split, all of it where it is smaller: int64 [at most `size`], ascending.

    Data sets lie sorted by label; the first rows would speak for a few labels only.
    """
    return np.unique(np.linspace(0, total - 1, min(size, total)).round().astype(np.int64))


def _label(label: str | None) -> str | None:
    return None if label is None else str(label)
