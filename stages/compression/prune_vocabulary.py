"""Drop the rows of the embedding that training texts hardly use, with the tokenizer rewritten to match, then recover.

A word that loses its piece falls to shorter pieces, character by character if need be: single characters stay. Where a
character has no piece at all, the word becomes the unknown token, as before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.compression import Outcome
from stages.core.errors import ConfigError
from stages.models.examples import Examples
from stages.models.pieces import count, indispensable, keep_rows, rewrite_tokenizer
from stages.models.recovery import Utterances, before, recover
from stages.schema.compression import PruneVocabulary

SPLITS = ("train", "validation")


def apply(model: Any, tokenizer: Any, splits: Mapping[str, Examples], params: PruneVocabulary) -> Outcome:
    """Prune the vocabulary of `model` in place and recover.

    Args:
        model: the checkpoint.
        tokenizer: its fast tokenizer, of WordPieces or whole words; left as it is.
        splits: `train` counts and recovers, `validation` is only reported on; both are encoded again.
        params: how often a piece must occur to stay.

    Raises:
        Unsupported: a tokenizer of another kind.
        ConfigError: every piece stays.
    """
    used = count(splits["train"].encoded, model.get_input_embeddings().num_embeddings)
    kept = np.flatnonzero((used >= params.min_count) | indispensable(tokenizer, len(used)))
    if len(kept) == len(used):
        raise ConfigError(f"each of {len(used)} pieces occurs {params.min_count} times", expected="a larger min_count")
    known = before(model, splits, params.recovery)
    if known.guidance is not None and not known.guidance.by_text:
        known = replace(known, guidance=None)  # what a token was answered says nothing of the pieces it falls to
    rewritten = rewrite_tokenizer(tokenizer, kept)
    keep_rows(model, kept)
    again = {name: _encoded(rewritten, split) for name, split in splits.items()}
    notes, history = recover(model, rewritten, again, params.recovery, known)
    counts = {"pieces_before": len(used), "pieces": len(kept), "tokens_changed": _changed(splits, again, kept)}
    return Outcome(model, {**counts, **notes}, history, tokenizer=rewritten)


def _encoded(tokenizer: Any, split: Examples) -> Examples:
    assert isinstance(split, Utterances)
    return split.encode(tokenizer)


def _changed(
    splits: Mapping[str, Examples], again: Mapping[str, Examples], kept: NDArray[np.int64]
) -> dict[str, float]:
    """Share of a split's texts that are cut into other pieces than before."""
    return {
        name: float((kept[again[name].encoded.input_ids] != split.encoded.input_ids).any(axis=1).mean())
        for name, split in splits.items()
    }
