"""Altered copies of training utterances, for a teacher to label anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.models.encode import Encoded, IntArray

# Share of an utterance's tokens that a copy drops or masks, and the most tokens it takes from another utterance.
ALTERED_SHARE = 0.15
SPLICED_TOKENS = 3

Change = Callable[[NDArray[np.int32], np.random.Generator], NDArray[np.int32]]


def pool(encoded: Encoded, copies: int, tokenizer: Any, seed: int) -> Encoded:
    """Follow a split by altered copies of it.

    Each copy of an utterance either lacks tokens, has tokens masked (where the tokenizer has a mask token), or
    contains a few tokens of another utterance. The first and last token, [CLS] and [SEP], stay.

    Args:
        encoded: n utterances, each with two special tokens around it.
        copies: altered copies of each.
        tokenizer: names the padding and the mask token.
        seed: of every choice.

    Returns:
        n · (1 + copies) utterances: the originals, then one block of n per copy.
    """
    random = np.random.default_rng(seed)
    bodies = [row[1 : length - 1] for row, length in zip(encoded.input_ids, encoded.lengths, strict=True)]
    changes = _changes(bodies, tokenizer.mask_token_id)
    ids, masks = [encoded.input_ids], [encoded.attention_mask]
    for _ in range(copies):
        altered = [changes[random.integers(len(changes))](body, random) for body in bodies]
        block_ids, block_mask = _framed(encoded, altered, tokenizer.pad_token_id)
        ids.append(block_ids)
        masks.append(block_mask)
    return Encoded(np.concatenate(ids), np.concatenate(masks), encoded.truncated)


def _changes(bodies: list[NDArray[np.int32]], mask_id: int | None) -> list[Change]:
    def drop(body: NDArray[np.int32], random: np.random.Generator) -> NDArray[np.int32]:
        kept = body[random.random(len(body)) >= ALTERED_SHARE]
        return kept if len(kept) else body

    def mask(body: NDArray[np.int32], random: np.random.Generator) -> NDArray[np.int32]:
        return np.where(random.random(len(body)) < ALTERED_SHARE, np.int32(mask_id or 0), body)

    def splice(body: NDArray[np.int32], random: np.random.Generator) -> NDArray[np.int32]:
        other = bodies[random.integers(len(bodies))]
        at = random.integers(len(body) + 1)
        return np.concatenate([body[:at], other[-random.integers(1, SPLICED_TOKENS + 1) :], body[at:]])

    return [drop, splice] if mask_id is None else [drop, mask, splice]


def _framed(encoded: Encoded, bodies: list[NDArray[np.int32]], pad_id: int) -> tuple[IntArray, IntArray]:
    n, width = encoded.input_ids.shape
    ids = np.full((n, width), pad_id, dtype=np.int32)
    mask = np.zeros((n, width), dtype=np.int32)
    for row, body in enumerate(bodies):
        kept = body[: width - 2]
        ids[row, 0] = encoded.input_ids[row, 0]
        ids[row, 1 : len(kept) + 1] = kept
        ids[row, len(kept) + 1] = encoded.input_ids[row, encoded.attention_mask[row].sum() - 1]
        mask[row, : len(kept) + 2] = 1
    return ids, mask
