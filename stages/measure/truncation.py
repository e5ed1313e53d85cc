"""Say how many texts of each split are longer than the model takes, as `reference` counted them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from stages.core import artifact

SPLITS = ("train", "validation", "test", "calibration", "probe")


class Cut(NamedTuple):
    """One split: its texts, and how many of them lost their end."""

    split: str
    ends: int
    texts: int

    def __str__(self) -> str:
        """Say it in a few words."""
        return f"{self.split} {self.ends:,} of {self.texts:,}"


def read(reference: Path) -> list[Cut]:
    """Return what was cut of each split.

    Args:
        reference: output of `reference`.
    """
    found = artifact.read_json(reference / "summary.json")["truncated"]
    return [Cut(name, found[name]["ends"], found[name]["texts"]) for name in SPLITS]


def sentence(reference: Path) -> str:
    """Return one sentence on the texts that were cut, empty where none was."""
    some = [str(cut) for cut in read(reference) if cut.ends]
    length = artifact.read_json(reference / "summary.json")["max_length"]
    return f"Longer than {length} tokens, and read without their end: {', '.join(some)}." if some else ""
