"""Ask a converted model what no split asks: about every id of the vocabulary, and for many texts at once.

Token ids enter a model through the lookup of their vectors and nowhere else; each target's `lookup` refuses a model in
which that is not so. So a vector for each id, from the runtime itself, covers all that ids can do, without the layers
behind: 30,522 rows take less time than a dozen utterances.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.measure.matching import ONE_ROW, match
from stages.models import families
from stages.schema.measured import Weights
from stages.targets import registry

Arrays = Mapping[str, NDArray[Any]]
WORDS = tuple({families.find(name).weights["words"] for name in families.names()})
"""How the table of the vocabulary is called, by its end."""


def words_of(checkpoint: Arrays) -> str:
    """Name the table of the vocabulary in a checkpoint."""
    return next(name for name in sorted(checkpoint) if name.endswith(WORDS))


def vocabulary_of(checkpoint: Arrays) -> Arrays:
    """Return the table of the vocabulary, and what a converter may have added to or multiplied into it."""
    name = words_of(checkpoint)
    return {key: value for key, value in checkpoint.items() if key == name or value.ndim == 1 or key.endswith(ONE_ROW)}


def check_vocabulary(target: str, converted: Path, checkpoint: Arrays, weights: Weights) -> None:
    """Count what a converted model looks up for every id as a weight: conversion may change none of them.

    Args:
        target: its platform.
        converted: output of `convert`.
        checkpoint: tensors by name.
        weights: how they compare, changed in place where a row is worse than all of them.
    """
    name = words_of(checkpoint)
    rows = registry.lookup(target).looked_up(converted, np.arange(len(checkpoint[name]), dtype=np.int32))
    error = vocabulary_error(checkpoint, rows)
    if error > weights["values"]["conversion_weight_error_max"]:
        weights["converted"] = name
        weights["values"] = {**weights["values"], "conversion_weight_error_max": error}


def vocabulary_error(checkpoint: Arrays, rows: NDArray[np.float32]) -> float:
    """Compare what every id looks up with the checkpoint's table.

    Args:
        checkpoint: tensors by name.
        rows: fp32 [ids, width], of all ids from 0 on.

    Returns:
        As of `matching.Match.error`: 0 where every row is the checkpoint's own.
    """
    name = words_of(checkpoint)
    if np.array_equal(rows, np.asarray(checkpoint[name], np.float32)):
        return 0.0
    return match(vocabulary_of(checkpoint), {name: rows}, positions=len(rows))[name].error
