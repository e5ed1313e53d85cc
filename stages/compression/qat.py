"""Train on with weights and activations rounded as an artifact will round them, and leave the weights rounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.compression import Outcome
from stages.models.examples import Examples
from stages.models.fake_quantize import Grid, rounding
from stages.models.recovery import before, recover
from stages.schema.compression import Qat

SPLITS = ("train", "validation")


def apply(model: Any, tokenizer: Any, splits: Mapping[str, Examples], params: Qat) -> Outcome:
    """Train `model` in place towards what it answered unrounded.

    The result is a plain fp32 checkpoint. The ranges of activations are trained against and then forgotten: a target
    calibrates them anew.

    Args:
        model: the checkpoint to train.
        tokenizer: for token masking.
        splits: `train` learns; `validation` is only reported on: before, once rounded, and once trained.
        params: the grid and the training.

    Raises:
        Unsupported: `norms_folded`, and a layer that reads two normalisations.
    """
    known = before(model, splits, params.recovery)
    with rounding(model, _grid(params)):
        notes, history = recover(model, tokenizer, splits, params.recovery, known)
    return Outcome(model, notes, history)


def _grid(params: Qat) -> Grid:
    return Grid(
        weight_bits=params.weight_bits,
        granularity=params.granularity,
        pairwise=params.pairwise,
        norms_folded=params.norms_folded,
        activation_bits=params.activation_bits,
    )
