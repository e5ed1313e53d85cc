"""Train on with weights and activations rounded as an artifact will round them, and leave the weights rounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.compression import Outcome
from stages.models import encode, training
from stages.models.fake_quantize import Grid, rounding
from stages.models.training import Examples
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
    train, validation, recovery = splits["train"], splits["validation"], params.recovery
    guidance = training.Guidance(
        logits=encode.logits(model, train.encoded),
        temperature=recovery.temperature,
        kl_weight=recovery.kl_weight,
        ce_weight=recovery.ce_weight,
    )
    notes = {"validation_accuracy_before": training.accuracy(model, validation)}
    with rounding(model, _grid(params)):
        notes["validation_accuracy_rounded"] = training.accuracy(model, validation)
        history = training.fit(
            model, tokenizer, train, validation, recovery.training, guidance=guidance, title="train rounded"
        )
    notes["validation_accuracy_recovered"] = training.accuracy(model, validation)
    return Outcome(model, notes, history)


def _grid(params: Qat) -> Grid:
    return Grid(
        weight_bits=params.weight_bits,
        granularity=params.granularity,
        pairwise=params.pairwise,
        norms_folded=params.norms_folded,
        activation_bits=params.activation_bits,
    )
