"""A classifier is as good as its answers are right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.core.splits import UNKNOWN
from stages.measure.items import Answers
from stages.measure.metrics import measure_accuracy
from stages.schema.measured import Part


def measure(
    case: NDArray[np.int32], wanted: NDArray[np.int64], given: Answers, reference: Answers, teacher: Answers
) -> Part:
    """Measure accuracy on the texts with a label, and how much of the reference's and the teacher's is lost."""
    others = {"reference": reference.answer, "teacher": teacher.answer}
    values, intervals = measure_accuracy(case, wanted, given.answer, others)
    return {"counts": dict.fromkeys(values, int((wanted != UNKNOWN).sum())), "intervals": intervals, "values": values}
