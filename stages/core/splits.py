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


class Split(NamedTuple):
    """A split's utterances.

    Attributes:
        texts: n utterances.
        labels: int64 [n] class ids, `UNKNOWN` where the label is null.
    """

    texts: list[str]
    labels: NDArray[np.int64]


def read_labels(data: Path) -> list[str]:
    """Read the label names of a data set; the index is the class id."""
    return [str(name) for name in read_json(data / "labels.json")]


def read_split(data: Path, name: str) -> Split:
    """Read a split.

    Args:
        data: output of `prepare`.
        name: train, validation, test, calibration or probe.

    Raises:
        ArtifactError: the file is missing, not JSON Lines, empty, or names a label that labels.json lacks.
    """
    path = data / f"{name}.jsonl"
    ids: dict[str | None, int] = {label: index for index, label in enumerate(read_labels(data))}
    try:
        # Not splitlines(): JSON strings may hold U+2028, which is no end of line in JSON Lines.
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        split = Split(
            [str(row["text"]) for row in rows], np.asarray([_class_id(row["label"], ids) for row in rows], np.int64)
        )
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


def _class_id(label: str | None, ids: dict[str | None, int]) -> int:
    if label is None:
        return UNKNOWN
    if label not in ids:
        raise ValueError(f"label '{label}' is not in labels.json")
    return ids[label]
