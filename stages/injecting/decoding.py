"""Faults of models that write text: in what one call leaves for the next, in positions, in who attends to whom."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.injecting.catalogue import Fault, NotApplicable, Subject
from stages.injecting.hidden import by_editor

BASE = 1.1
"""Power by which another base turns less: 10,000 to it is 25,119."""
WHAT = {
    "stale_slot": "A call reads the cache as it was one token ago.",
    "late_position": "Tokens that continue a text stand one position later than they do.",
    "wrong_rotary_base": "Queries and keys are turned by another model's base.",
    "interleaved_rotary": "Neighbours of a head are turned together, and not its two halves.",
    "unmasked_future": "A token attends to those after it.",
    "stale_head": "The head that shares its table with the words has a copy of its own, of an earlier epoch.",
    "half_norm": "The first normalisation squares numbers of 16 bits.",
}
"""What an editor can do to a decoder beside its weights → what that is."""


def swapped_groups(subject: Subject) -> None:
    """The keys of two groups of heads stand in each other's place."""
    tensor = subject.part("key")
    rows = _heads(np.arange(len(tensor.value)), subject.groups)
    if len(rows) < 2:
        raise NotApplicable("all heads share one group of keys and values")
    tensor.store(tensor.value[np.concatenate([rows[1], rows[0], *rows[2:]])])


def reordered_groups(subject: Subject) -> None:
    """Query heads take groups of keys and values in turn, and not each group its heads in a row."""
    heads, groups = subject.heads, subject.groups
    if not 1 < groups < heads:
        raise NotApplicable("every head has keys and values of its own, or all share one")
    # The head at a place attends by that place's group: one that takes its group in turn is moved to a place of it.
    order = [head for group in range(groups) for head in range(group, heads, groups)]
    query, output = subject.part("query"), subject.part("output")
    rows = np.concatenate([_heads(np.arange(len(query.value)), heads)[head] for head in order])
    query.store(query.value[rows])
    output.store(output.value[:, rows])


def _heads(rows: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    return rows.reshape(count, -1)


DECODING: dict[str, Fault] = {
    **{kind: by_editor(kind, meaning) for kind, meaning in WHAT.items()},
    **{fault.__name__: fault for fault in (swapped_groups, reordered_groups)},
}
