"""Answer the whole test split with a model file, each utterance alone and at its true length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.timing import Contender, Tokens
from stages.measure.statistics import paired_difference, proportion_interval

Split = Mapping[str, NDArray[Any]]


def true_lengths(split: Split) -> list[Tokens]:
    """Cut the padding off: int32 [1, n] per utterance.

    Args:
        split: `input_ids`, `attention_mask` int32 [utterances, max_length], right-padded.
    """
    lengths = split["attention_mask"].sum(axis=1)
    return [split["input_ids"][row : row + 1, :length].copy() for row, length in enumerate(lengths)]


def measure(contender: Contender, split: Split) -> dict[str, Any]:
    """Compare answers with the labels and with the reference's.

    No batches: an activation's scale at a dynamic precision depends on everything in the batch.

    Args:
        contender: the opened model.
        split: `input_ids`, `attention_mask`, `labels` [utterances], `logits` [utterances, labels] of the checkpoint.

    Returns:
        `accuracy`, `drop` to the checkpoint, each with its interval; `top1_agreement`, `max_abs_error`, `n`.
    """
    logits = np.concatenate([contender.run(contender.feed(ids)) for ids in true_lengths(split)])
    right, expected = (found.argmax(axis=1) == split["labels"] for found in (logits, split["logits"]))
    drop, drop_interval = paired_difference(expected, right)
    return {
        "accuracy": float(right.mean()),
        "drop": drop,
        "drop_interval": list(drop_interval),
        "interval": list(proportion_interval(int(right.sum()), right.size)),
        "max_abs_error": float(np.abs(logits - split["logits"]).max()),
        "n": int(right.size),
        "top1_agreement": float((logits.argmax(axis=1) == split["logits"].argmax(axis=1)).mean()),
    }
