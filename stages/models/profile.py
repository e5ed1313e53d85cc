"""Count a checkpoint's parameters and multiply-accumulates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def parameters(model: Any) -> int:
    """Number of weights; tied and shared ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def macs(model: Any, length: int) -> int:
    """Multiply-accumulates of one utterance of `length` tokens.

    Counts matrix products (Linear layers, attention scores, attention times values), which torch reports as two
    floating-point operations each. Leaves out what has no matrix product: embedding look-ups, additions,
    normalisation, activations, softmax.
    """
    ids = torch.ones((1, length), dtype=torch.int64)
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    return int(counter.get_total_flops()) // 2


def macs_by_length(model: Any, lengths: Sequence[int]) -> dict[str, int]:
    """Map each length, as text because it becomes a JSON key, to its multiply-accumulates."""
    return {str(length): macs(model, length) for length in lengths}
