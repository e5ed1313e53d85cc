"""Copies of training utterances, for a teacher to label anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.core.splits import UNKNOWN
from stages.models.encode import Encoded
from stages.models.examples import Examples
from stages.models.near import Near
from stages.schema.transfer import Transfer

# Share of an utterance's tokens that a copy drops or masks, and the most tokens it takes from another utterance.
ALTERED_SHARE = 0.15
SPLICED_TOKENS = 3

Body = NDArray[np.int64]
"""The tokens of an utterance between its special ones, each with what is right of it: int64 [tokens, 2]."""
Change = Callable[[Body, np.random.Generator], Body]


class Block(NamedTuple):
    """Copies of all utterances, made one way.

    Attributes:
        name: of the way.
        change: makes a copy.
        keeps_label: whether what is right of an utterance is right of its copy.
    """

    name: str
    change: Change
    keeps_label: bool = False


def pool(
    examples: Examples, settings: Transfer, tokenizer: Any, near: Near | None = None
) -> tuple[Examples, dict[str, int]]:
    """Follow a split by copies of it.

    A copy that is `altered` either lacks tokens, has tokens masked (where the tokenizer has a mask token), or contains
    a few tokens of another utterance; what is right of a text is taken to be right of it. A copy of `halves` ends as
    another utterance does, and one of `near` has other words, which may change what is right: nobody knows it.

    The first and last token, [CLS] and [SEP], stay. Where each token has a class of its own, it goes where the token
    goes, and none is known of a token that comes from elsewhere.

    Args:
        examples: n utterances, each with two special tokens around it.
        settings: how many copies of which kind, and the seed of every choice.
        tokenizer: names the padding and the mask token.
        near: the words that `settings.near` asks for.

    Returns:
        The originals, then one block of n per copy; and how many utterances each kind has, in that order.
    """
    encoded, whole = examples.encoded, examples.wanted.ndim == 1
    wanted = np.full_like(encoded.input_ids, UNKNOWN, np.int64) if whole else examples.wanted
    rows = np.stack([encoded.input_ids, wanted], axis=2)
    bodies = [row[1 : length - 1] for row, length in zip(rows, encoded.lengths, strict=True)]
    blocks, masks, known = [rows], [encoded.attention_mask], [examples.wanted]
    counts = {"train": len(rows)}
    random = np.random.default_rng(settings.seed)
    for name, change, keeps_label in _blocks(settings, bodies, tokenizer, near):
        block, mask = _framed(rows, encoded.lengths, [change(body, random) for body in bodies], tokenizer.pad_token_id)
        blocks.append(block)
        masks.append(mask)
        known.append(examples.wanted if keeps_label else np.full_like(examples.wanted, UNKNOWN))
        counts[name] = counts.get(name, 0) + len(block)
    found = np.concatenate(blocks)
    right = np.concatenate(known) if whole else np.ascontiguousarray(found[:, :, 1])
    return Examples(
        Encoded(found[:, :, 0].astype(np.int32), np.concatenate(masks), encoded.truncated), right, examples.items
    ), counts


def _blocks(settings: Transfer, bodies: list[Body], tokenizer: Any, near: Near | None) -> Iterator[Block]:
    changes = _changes(bodies, tokenizer.mask_token_id)

    def altered(body: Body, random: np.random.Generator) -> Body:
        return changes[random.integers(len(changes))](body, random)

    def half(body: Body, random: np.random.Generator) -> Body:
        other = bodies[random.integers(len(bodies))]
        foreign = other[len(other) // 2 :].copy()
        foreign[:, 1] = UNKNOWN
        return np.concatenate([body[: (len(body) + 1) // 2], foreign])

    def swap(body: Body, random: np.random.Generator, share: float) -> Body:
        assert near is not None
        changed, ids = body.copy(), body[:, 0].copy()
        changed[near.replace(ids, share, random), 1] = UNKNOWN
        changed[:, 0] = ids
        return changed

    yield from (Block("altered", altered, keeps_label=True) for _ in range(settings.altered))
    yield from (Block("near", partial(swap, share=share)) for share in settings.near)
    yield from (Block("halves", half) for _ in range(settings.halves))


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
