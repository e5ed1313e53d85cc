"""What is kept of answers: a row for each item, since logits over a large vocabulary are too many to keep.

`items.npz` of parity holds a `Record` of every split. Logits themselves lie in `outputs.npz` for the probe split alone,
in the reference's splits and in `test_logits.npy` of teacher and student; of thousands of classes, the likeliest
(`top_logits`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact
from stages.core.splits import UNKNOWN

ITEMS = "items.npz"
NO_ANSWER = -1


class Answers(NamedTuple):
    """What the quality of a model is measured from.

    Attributes:
        answer: int32 [items], the class with the largest logit, `NO_ANSWER` where a logit is not finite.
        nll: float64 [items], minus the logarithm of what the wanted class is given as its probability; in nats, NaN
            where that class is not known, infinite where a logit is not finite.
    """

    answer: NDArray[np.int32]
    nll: NDArray[np.float64]


@dataclass(frozen=True)
class Record:
    """What an artifact answered to the items of a split, text by text.

    Attributes:
        case: int32 [items], the text that each belongs to, ascending.
        wanted: int64 [items], the right class, -1 where it is not known.
        answer: as in `Answers`.
        nll: as in `Answers`.
        max_abs_error: float64 [items], the largest difference of a logit to the reference's, infinite where one is not
            finite.
        kl_divergence: float64 [items], KL(reference ‖ artifact) in nats, likewise.
    """

    case: NDArray[np.int32]
    wanted: NDArray[np.int64]
    answer: NDArray[np.int32]
    nll: NDArray[np.float64]
    max_abs_error: NDArray[np.float64]
    kl_divergence: NDArray[np.float64]

    @property
    def answers(self) -> Answers:
        """What quality is measured from."""
        return Answers(self.answer, self.nll)

    @property
    def finite(self) -> NDArray[np.bool_]:
        """Whether all logits of an item are numbers: bool [items]."""
        return np.asarray(self.answer != NO_ANSWER)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether the right class of an item is known: bool [items]."""
        return np.asarray(self.wanted != UNKNOWN)


def arrays(records: Mapping[Any, Record]) -> dict[str, NDArray[Any]]:
    """Name what the file holds of the records of splits."""
    return {f"{split}_{name}": value for split, record in records.items() for name, value in vars(record).items()}


def read(directory: Path) -> dict[str, Record]:
    """Read what parity recorded, by split: nothing where the artifact was not run.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    found: dict[str, dict[str, NDArray[Any]]] = {}
    for key, value in artifact.read_arrays(directory / ITEMS).items():
        split, _, name = key.partition("_")
        found.setdefault(split, {})[name] = value
    return {
        split: Record(**{field.name: rows[field.name] for field in fields(Record)}) for split, rows in found.items()
    }
