"""What the `metrics.json` of coverage holds: what each accelerator takes of an artifact, and why not the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypedDict

from stages.core import artifact


class Listed(TypedDict):
    """One operator of a call, in order of execution."""

    dtype: str
    """Of its result."""
    macs: int
    """Multiply-accumulates of one call at the length that the graph is for."""
    module: str
    """Of the checkpoint, as far as the artifact's names tell it."""
    name: str
    """Of its result."""
    operator: str
    shape: list[int] | None
    """Of its result; null where the file does not tell it."""


class Refused(TypedDict):
    """Operators of one type that an accelerator refuses for one reason."""

    cure: str
    """The rewrite after which they are taken, or empty."""
    doubt: bool
    """Whether they are handed out all the same, and the driver may compute them otherwise."""
    macs: float
    """Share of the multiply-accumulates of a call, where it is largest."""
    modules: list[str]
    operator: str
    places: dict[str, list[int]]
    """Call → positions in its list of operators."""
    reason: str


class Taken(TypedDict):
    """What one accelerator takes, of the call that fares worst."""

    basis: str
    """`measured` by a run here; `rules` of the code that hands out the work; `advisory`: what is written about that."""
    macs: float
    """Share of multiply-accumulates, doubtful ones among them."""
    operators: float
    """Share of operators, doubtful ones among them."""
    partitions: int
    """Parts that it executes: between any two of them the CPU has a turn."""
    refused: list[Refused]
    source: str
    sure_macs: float
    """Share of multiply-accumulates without the doubtful ones."""
    sure_operators: float
    """Share of operators without the doubtful ones."""
    title: str


class Coverage(TypedDict, total=False):
    """All that is said of one variant; `values` and `counts` as in what parity measures."""

    accelerators: dict[str, Taken]
    counts: dict[str, int]
    graphs: dict[str, list[Listed]]
    """Call → its operators."""
    reason: str
    """Why it is `failed`."""
    target: str
    status: Literal["measured", "failed"]
    values: dict[str, float]


def read_coverage(directory: Path) -> Coverage:
    """Read what accelerators take of a variant: `build/coverage/V`."""
    found: Coverage = artifact.read_json(directory / "metrics.json")
    return found
