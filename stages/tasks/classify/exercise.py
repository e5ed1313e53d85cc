"""Ask a classifier one text at a time at its true length, as an app would."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from stages.core.errors import ArtifactError
from stages.tasks.base import FORWARD, INPUTS, Arrays, Session

LATENCIES = {"true_length": "latency", "full_length": "latency_full"}


def answer(session: Session, split: Arrays, name: str) -> NDArray[np.float32]:
    """Return the logits of a split, fp32 [texts, classes].

    Raises:
        ArtifactError: it fails while it runs, or answers in another shape than the reference.
    """
    sizes = split["attention_mask"].sum(axis=1)
    rows = (
        {key: split[key][row : row + 1, :size].astype(np.int32, copy=False) for key in INPUTS}
        for row, size in enumerate(sizes)
    )
    found = [session.run(FORWARD, one)["logits"] for one in tqdm(rows, desc=name, total=len(sizes), leave=False)]
    logits = np.concatenate(found)
    if logits.shape != split["logits"].shape:
        raise ArtifactError(f"the artifact answers {logits.shape}", expected=f"{split['logits'].shape} logits")
    return logits


def case(split: Arrays) -> NDArray[np.int32]:
    """Return the text that each item belongs to: its own."""
    return np.arange(len(split["attention_mask"]), dtype=np.int32)


def timed(split: Arrays) -> dict[str, list[tuple[str, Arrays]]]:
    """Return the calls to time: every text without padding, and as long as texts may be."""
    sizes = split["attention_mask"].sum(axis=1)
    ends = {"true_length": sizes, "full_length": np.full_like(sizes, split["attention_mask"].shape[1])}
    return {kind: [(FORWARD, _row(split, row, end)) for row, end in enumerate(ends[kind])] for kind in LATENCIES}


def _row(split: Arrays, row: int, end: int) -> Arrays:
    # A copy: a row of a larger array is not where a caller's own buffer would lie.
    return {name: split[name][row : row + 1, :end].copy() for name in INPUTS}
