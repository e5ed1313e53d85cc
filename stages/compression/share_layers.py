"""Let encoder layers share their weights in groups of neighbours, as ALBERT's do, then recover by distillation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.compression import Outcome
from stages.core.errors import ConfigError
from stages.models import reshape
from stages.models.examples import Examples
from stages.models.recovery import before, recover
from stages.schema.compression import ShareLayers

SPLITS = ("train", "validation")


def apply(model: Any, tokenizer: Any, splits: Mapping[str, Examples], params: ShareLayers) -> Outcome:
    """Share and recover `model` in place. Every group starts as its first layer; it costs as much time as before.

    Args:
        model: the checkpoint.
        tokenizer: for token masking during recovery.
        splits: `train` recovers; `validation` is only reported on.
        params: how many sets of weights are left, and how to recover.

    Raises:
        Unsupported: layers that differ by more than their weights, or that share already.
        ConfigError: as many groups as layers, or more.
    """
    known = before(model, splits, params.recovery)
    groups = assign(model.config.num_hidden_layers, params.groups)
    reshape.share_layers(model, groups)
    notes, history = recover(model, tokenizer, splits, params.recovery, known)
    return Outcome(model, {"shared_layers": groups, **notes}, history)


def assign(layers: int, groups: int) -> list[int]:
    """Name the group of every layer: 2 groups of 4 layers → 0, 0, 1, 1; 2 of 3 → 0, 0, 1.

    Source: `num_hidden_groups` of ALBERT (Lan et al. 2020), whose layer i is of group int(i / (layers / groups)).

    Raises:
        ConfigError: no two layers would share.
    """
    if groups >= layers:
        raise ConfigError(f"groups {groups} of {layers} layers share nothing", expected="fewer groups than layers")
    # In whole numbers: as floats, 18 layers in 14 groups put the tenth layer in the group before its own.
    return [layer * groups // layers for layer in range(layers)]
