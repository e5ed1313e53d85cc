"""A language model is as good as the text that follows is likely to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.core.splits import UNKNOWN
from stages.measure.items import Answers
from stages.measure.metrics import measure_perplexity
from stages.schema.measured import Part


def measure(
    case: NDArray[np.int32], wanted: NDArray[np.int64], given: Answers, reference: Answers, teacher: Answers
) -> Part:
    """Measure perplexity over the tokens that follow others, and its ratio to the reference's and the teacher's."""
    known = wanted != UNKNOWN
    others = {"reference": reference.nll[known], "teacher": teacher.nll[known]}
    values, intervals = measure_perplexity(case[known], given.nll[known], others)
    return {"counts": dict.fromkeys(values, int(known.sum())), "intervals": intervals, "values": values}
