"""What a data set is once it is read, and how it is made disjoint and carved into five splits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

from stages.core.errors import ConfigError, InputError

RAW = ("train", "validation", "test")
SPLITS = ("train", "validation", "test", "calibration", "probe")


class Example(NamedTuple):
    """One utterance and the name of its intent."""

    text: str
    label: str


Splits = dict[str, list[Example]]
"""Split name → examples."""


@dataclass(frozen=True)
class Source:
    """A data set as it came: train, validation and test, and the files it was read from."""

    splits: Splits
    files: Mapping[str, Path] = field(default_factory=dict)
    """Role → file, for the lineage; empty where nothing was read."""


def normalise(text: str) -> str:
    """Return what two texts share when they count as the same: casefolded, whitespace collapsed."""
    return " ".join(text.casefold().split())
