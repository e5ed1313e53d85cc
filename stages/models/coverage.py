"""Inputs that normal utterances leave out: every length, every vocabulary row in use, texts no grammar writes."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle, islice
from typing import Any

import numpy as np

from stages.core.splits import spread
from stages.models.encode import Encoded, encode, filler

EDGES = (
    "",
    " ",
    "?",
    "a",
    "ok",
    "Größe, naïve café — façade",
    "今日の天気はどうですか",
    "مرحبا بالعالم",
    "Привет мир",
    "👩‍👩‍👧 🇩🇪 👍🏽",
    "e\u0301 versus \u00e9, zero\u200bwidth, \u00a0 no-break",
    "WAKE ME UP AT 7:30AM!!!",
    "https://example.org/?q=1&r=%20",
    "[CLS] [SEP] [PAD] [MASK] <s> </s>",
    "word " * 600,
    "Donaudampfschifffahrtsgesellschaftskapitän" * 12,
)
"""Texts at the edge of what a tokenizer meets: none, one character, other scripts, joined emoji, special tokens as
text, more than 512 tokens."""


def encode_coverage(
    tokenizer: Any,
    normal: Iterable[Encoded],
    max_length: int,
    *,
    continues: bool = False,
    spelled_padding: bool = True,
    most: int | None = None,
) -> Encoded:
    """Build the inputs that, together with an ordinary text, let no row of a table that normal text uses go unread.

    Args:
        tokenizer: fast, with a padding token.
        normal: what normal text is: all utterances of the data set.
        max_length: width of the arrays.
        continues: whether the model reads token by token, so that a text is one of every shorter length too.
        spelled_padding: whether the model reads a text that spells the padding token as it reads others.
        most: rows of ids, None for as many as it takes.

    Returns:
        `EDGES`, in order; then one input per length from 1 to `max_length` (per power of two, and of the whole length,
        where the model continues texts); then every id that `normal` uses and the
        rows before do not, as many to an input as fit; where that is more than `most`, rows evenly spaced among them.
    """
    edges = encode(tokenizer, EDGES, max_length)
    if not spelled_padding:
        sound = ~((edges.input_ids == tokenizer.pad_token_id) & (edges.attention_mask == 1)).any(axis=1)
        edges = Encoded(edges.input_ids[sound], edges.attention_mask[sound], edges.truncated)
    special = edges.input_ids[0, : edges.lengths[0]].tolist()  # what the tokenizer puts around no text at all
    head, tail = special[:1], special[1:]
    used = np.unique(np.concatenate([np.unique(one.input_ids[one.attention_mask == 1]) for one in normal]))
    plain = [int(i) for i in used if i not in special]
    asked = (
        {*(2**power for power in range(max_length.bit_length())), max_length} if continues else range(1, max_length + 1)
    )
    lengths = [_wrapped(islice(cycle(plain), max(n - len(special), 0)), head, tail)[:n] for n in sorted(asked)]
    seen = {i for row in lengths for i in row} | set(edges.input_ids[edges.attention_mask == 1].tolist())
    unread = [i for i in plain if i not in seen]
    room = max_length - len(special)
    packed = [_wrapped(unread[start : start + room], head, tail) for start in range(0, len(unread), room)]
    chosen = range(len(packed)) if most is None else spread(len(packed), most)
    rows = [*lengths, *(packed[row] for row in chosen)]
    input_ids = np.full((len(rows), max_length), filler(tokenizer), np.int32)
    attention_mask = np.zeros((len(rows), max_length), np.int32)
    for number, ids in enumerate(rows):
        input_ids[number, : len(ids)], attention_mask[number, : len(ids)] = ids, 1
    return Encoded(
        np.concatenate([edges.input_ids, input_ids]),
        np.concatenate([edges.attention_mask, attention_mask]),
        edges.truncated,
    )


def _wrapped(ids: Iterable[int], head: list[int], tail: list[int]) -> list[int]:
    return [*head, *ids, *tail]
