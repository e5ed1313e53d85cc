"""Let all encoder layers share one set of weights, as ALBERT's do, then recover by distillation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.compression import Outcome
from stages.core.errors import ConfigError
from stages.models import reshape
from stages.models.blocks import blocks, pruned_heads
from stages.models.recovery import before, recover
from stages.models.training import Examples
from stages.schema.compression import ShareLayers

SPLITS = ("train", "validation")


def apply(model: Any, tokenizer: Any, splits: Mapping[str, Examples], params: ShareLayers) -> Outcome:
    """Share and recover `model` in place. Every layer starts as the first; it costs as much time as before.

    Args:
        model: the checkpoint.
        tokenizer: for token masking during recovery.
        splits: `train` recovers; `validation` is only reported on.
        params: how to recover.

    Raises:
        Unsupported: a family other than BERT and DistilBERT.
        ConfigError: there is one set of weights already.
    """
    layers = len(blocks(model))
    known = before(model, splits, params.recovery)
    reshape.share_layers(model)
    if layers < 2:
        raise ConfigError("the checkpoint has one layer, or layers that share already", expected="two or more to share")
    model.config.pruned_heads = {layer: heads for layer, heads in pruned_heads(model.config).items() if layer == 0}
    notes, history = recover(model, tokenizer, splits, params.recovery, known)
    return Outcome(model, {"layers_sharing": layers, **notes}, history)
