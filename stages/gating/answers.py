"""Read which items of the test split a variant answered, and which of them rightly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.splits import UNKNOWN
from stages.measure import items
from stages.measure.items import Record
from stages.schema.layout import place


def read_answers(build: Path, key: str) -> Record | None:
    """Return a variant's answers to the test split; None where it was not run or a logit is not finite."""
    record = items.read(place(build, "parity", variant=key)).get("test")
    return record if record is not None and record.finite.all() else None


def right(answers: NDArray[np.integer], wanted: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether each item whose right answer is known was answered rightly."""
    return np.asarray((answers == wanted)[wanted != UNKNOWN])
