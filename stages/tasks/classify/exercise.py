"""Ask a classifier one text at a time at its true length, as an app would; a text is one item."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stages.measure import invariance
from stages.tasks.base import FORWARD, INPUTS, MASK, Arrays, Session, Timed, utterances

if TYPE_CHECKING:
    from stages.schema.measured import Greedy


def case(split: Arrays) -> NDArray[np.int32]:
    """Return the text that each item belongs to: its own."""
    return np.arange(len(split[MASK]), dtype=np.int32)


def ask(session: Session, inputs: Arrays) -> NDArray[np.float32]:
    """Return the logits of texts of one length, fp32 [texts, labels]."""
    return session.run(FORWARD, inputs)["logits"]


def answer(session: Session, split: Arrays) -> Iterator[NDArray[np.float32]]:
    """Ask for each text alone and at its true length."""
    return (ask(session, inputs) for inputs in utterances(split))


def forms(session: Session, probe: Arrays, padding: invariance.Padding) -> dict[str, float]:
    """Ask for texts padded, above other padding and in a batch."""
    return invariance.measure(partial(ask, session), probe, padding, batches=session.batches)


def greedy(session: Session, wanted: Arrays, spread: float) -> Greedy:  # noqa: ARG001
    """Return nothing: a classifier writes no text."""
    return {}


def timed(split: Arrays) -> dict[str, list[Timed]]:
    """Return the calls to time: every text without padding, and as long as texts may be."""
    sizes = split[MASK].sum(axis=1)
    ends = {"true_length": sizes, "full_length": np.full_like(sizes, split[MASK].shape[1])}
    return {kind: [Timed(FORWARD, _row(split, row, end)) for row, end in enumerate(ends[kind])] for kind in ends}


def _row(split: Arrays, row: int, end: int) -> Arrays:
    # A copy: a row of a larger array is not where a caller's own buffer would lie.
    return {name: split[name][row : row + 1, :end].copy() for name in INPUTS}
