"""Ask a classifier one text at a time at its true length, as an app would."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stages.tasks.base import FORWARD, INPUTS, MASK, Arrays, Session

LATENCIES = {"true_length": "latency", "full_length": "latency_full"}


def answer(session: Session, split: Arrays) -> Iterator[NDArray[np.float32]]:
    """Ask for each text alone and at its true length."""
    for row, size in enumerate(split[MASK].sum(axis=1)):
        inputs = {name: split[name][row : row + 1, :size].astype(np.int32, copy=False) for name in INPUTS}
        yield session.run(FORWARD, inputs)["logits"]


def case(split: Arrays) -> NDArray[np.int32]:
    """Return the text that each item belongs to: its own."""
    return np.arange(len(split[MASK]), dtype=np.int32)


def timed(split: Arrays) -> dict[str, list[tuple[str, Arrays]]]:
    """Return the calls to time: every text without padding, and as long as texts may be."""
    sizes = split[MASK].sum(axis=1)
    ends = {"true_length": sizes, "full_length": np.full_like(sizes, split[MASK].shape[1])}
    return {kind: [(FORWARD, _row(split, row, end)) for row, end in enumerate(ends[kind])] for kind in LATENCIES}


def _row(split: Arrays, row: int, end: int) -> Arrays:
    # A copy: a row of a larger array is not where a caller's own buffer would lie.
    return {name: split[name][row : row + 1, :end].copy() for name in INPUTS}
