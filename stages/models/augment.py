"""Altered copies of training utterances, for a teacher to label anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.splits import UNKNOWN
from stages.models.encode import Encoded
from stages.models.examples import Examples

# Share of an utterance's tokens that a copy drops or masks, and the most tokens it takes from another utterance.
ALTERED_SHARE = 0.15
SPLICED_TOKENS = 3

Body = NDArray[np.int64]
"""The tokens of an utterance between its special ones, each with what is right of it: int64 [tokens, 2]."""
Change = Callable[[Body, np.random.Generator], Body]


def pool(examples: Examples, copies: int, tokenizer: Any, seed: int) -> Examples:
    """Follow a split by altered copies of it.

    Each copy of an utterance either lacks tokens, has tokens masked (where the tokenizer has a mask token), or
    contains a few tokens of another utterance. The first and last token, [CLS] and [SEP], stay. What is right of a
    text is taken to be right of its copies; what is right of a token goes where it goes, and nothing is known of one
    that comes from elsewhere.

    Args:
        examples: n utterances, each with two special tokens around it.
        copies: altered copies of each.
        tokenizer: names the padding and the mask token.
        seed: of every choice.

    Returns:
        n · (1 + copies) utterances: the originals, then one block of n per copy.
    """
    random, encoded, whole = np.random.default_rng(seed), examples.encoded, examples.wanted.ndim == 1
    wanted = np.full_like(encoded.input_ids, UNKNOWN, np.int64) if whole else examples.wanted
    rows = np.stack([encoded.input_ids, wanted], axis=2)
    bodies = [row[1 : length - 1] for row, length in zip(rows, encoded.lengths, strict=True)]
    changes = _changes(bodies, tokenizer.mask_token_id)
    blocks, masks = [rows], [encoded.attention_mask]
    for _ in range(copies):
        altered = [changes[random.integers(len(changes))](body, random) for body in bodies]
        block, mask = _framed(rows, encoded.lengths, altered, tokenizer.pad_token_id)
        blocks.append(block)
        masks.append(mask)
    found = np.concatenate(blocks)
    return Examples(
        Encoded(found[:, :, 0].astype(np.int32), np.concatenate(masks), encoded.truncated),
        np.tile(examples.wanted, 1 + copies) if whole else np.ascontiguousarray(found[:, :, 1]),
        examples.items,
    )


def _changes(bodies: list[Body], mask_id: int | None) -> list[Change]:
    def drop(body: Body, random: np.random.Generator) -> Body:
        kept = body[random.random(len(body)) >= ALTERED_SHARE]
        return kept if len(kept) else body

    def mask(body: Body, random: np.random.Generator) -> Body:
        masked = body.copy()
        masked[random.random(len(body)) < ALTERED_SHARE, 0] = mask_id or 0
        return masked

    def splice(body: Body, random: np.random.Generator) -> Body:
        other = bodies[random.integers(len(bodies))]
        at = random.integers(len(body) + 1)
        foreign = other[-random.integers(1, SPLICED_TOKENS + 1) :].copy()
        foreign[:, 1] = UNKNOWN
        return np.concatenate([body[:at], foreign, body[at:]])

    return [drop, splice] if mask_id is None else [drop, mask, splice]


def _framed(
    rows: NDArray[np.int64], lengths: NDArray[np.int64], bodies: list[Body], pad_id: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    width = rows.shape[1]
    found, mask = np.full_like(rows, (pad_id, UNKNOWN)), np.zeros(rows.shape[:2], dtype=np.int32)
    for row, body in enumerate(bodies):
        kept = body[: width - 2]
        found[row, 0] = rows[row, 0]
        found[row, 1 : len(kept) + 1] = kept
        found[row, len(kept) + 1] = rows[row, lengths[row] - 1]
        mask[row, : len(kept) + 2] = 1
    return found, mask
