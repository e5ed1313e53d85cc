"""Texts to fixed-length token arrays, and arrays to logits, the same way in every stage that runs torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.core.errors import InputError

IntArray = NDArray[np.int32]

FORWARD = 1 << 23
"""Numbers of the widest layer's result in one forward pass: 32 MB, of which a layer holds three or four at once."""


@dataclass(frozen=True)
class Encoded:
    """Token ids of a split.

    Attributes:
        input_ids: int32 [n, max_length], right-padded with the tokenizer's pad id.
        attention_mask: int32 [n, max_length], 1 on tokens and 0 on padding.
        truncated: how many texts were longer than `max_length` tokens and lost their end.
    """

    input_ids: IntArray
    attention_mask: IntArray
    truncated: int

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.input_ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text, special tokens included: int64 [n]."""
        found: NDArray[np.int64] = self.attention_mask.sum(axis=1, dtype=np.int64)
        return found

    def followed_by(self, other: Encoded) -> Encoded:
        """Return these texts and then others, of the same width."""
        return Encoded(
            np.concatenate([self.input_ids, other.input_ids]),
            np.concatenate([self.attention_mask, other.attention_mask]),
            self.truncated + other.truncated,
        )


def encode(tokenizer: Any, texts: Sequence[str], max_length: int) -> Encoded:
    """Tokenise texts, special tokens included.

    Args:
        tokenizer: a fast Hugging Face tokenizer; of a decoder, which never sees padding, it may have none.
        texts: n strings.
        max_length: width of the arrays; longer texts are cut and counted.

    Raises:
        InputError: there is no text.
    """
    if not texts:
        raise InputError("no texts to encode", expected="at least one")
    batch = tokenizer(list(texts), truncation=True, max_length=max_length, padding=False)
    tokenizer.backend_tokenizer.no_truncation()  # a call leaves its limit behind, and saving would ship it
    input_ids = np.full((len(texts), max_length), filler(tokenizer), dtype=np.int32)
    attention_mask = np.zeros((len(texts), max_length), dtype=np.int32)
    for row, ids in enumerate(batch["input_ids"]):
        input_ids[row, : len(ids)] = ids
        attention_mask[row, : len(ids)] = 1
    return Encoded(input_ids, attention_mask, sum(1 for encoding in batch.encodings if encoding.overflowing))


def windows(tokenizer: Any, texts: Sequence[str], max_length: int, step: int) -> Encoded:
    """Tokenise texts, one after the other, and cut the stream they make into windows.

    Args:
        tokenizer: a fast Hugging Face tokenizer; what it puts before a text parts it from the one before.
        texts: n strings.
        max_length: width of the arrays; the last window alone may have fewer tokens.
        step: tokens from where a window begins to where the next one does. At `max_length - 1` every token but the
            first is asked for once; below that the same token is met behind more and behind fewer others.

    Raises:
        InputError: there are no two tokens.
    """
    stream = [token for ids in tokenizer(list(texts))["input_ids"] for token in ids]
    if len(stream) < 2:
        raise InputError("the texts to learn from are no two tokens", expected="more text")
    starts = range(0, max(1, len(stream) - max_length + step), step)
    rows = [stream[start : start + max_length] for start in starts]
    input_ids = np.full((len(rows), max_length), filler(tokenizer), dtype=np.int32)
    lengths = np.array([len(row) for row in rows])
    for row, ids in zip(input_ids, rows, strict=True):
        row[: len(ids)] = ids
    return Encoded(input_ids, (np.arange(max_length) < lengths[:, None]).astype(np.int32), 0)


def filler(tokenizer: Any) -> int:
    """Return the id that rows are filled up with: the padding token, or any where a tokenizer has none."""
    return int(tokenizer.pad_token_id or 0)


def batches(
    model: Any, encoded: Encoded, batch_size: int = 256
) -> Iterator[tuple[NDArray[np.int64], IntArray, NDArray[np.float32]]]:
    """Run a model over a split without dropout or gradients.

    Texts are sorted by length so that each batch is only as wide as its longest text; padding costs nothing
    and the batches, hence the bits, depend on the inputs alone.

    Args:
        model: a Hugging Face model with a head; its training mode is restored afterwards.
        encoded: n texts.
        batch_size: texts per forward pass, fewer where a layer's result would be larger than `FORWARD`.

    Yields:
        Numbers of the texts, [batch]; their mask, [batch, length]; and logits: float32 [batch, classes], or
        [batch, length, classes] of a model that answers every token.
    """
    lengths, widest = encoded.lengths, max((one.out_features for one in _linears(model)), default=1)
    order = np.argsort(lengths, kind="stable")
    was_training = model.training
    model.eval()
    start = 0
    try:
        while start < len(order):
            rows = order[start : start + batch_size]
            rows = rows[: max(1, FORWARD // (int(lengths[rows].max()) * widest))]
            width = int(lengths[rows].max())
            yield rows, encoded.attention_mask[rows, :width], _forward(model, encoded, rows, width)
            start += len(rows)
    finally:
        model.train(was_training)


def logits(model: Any, encoded: Encoded, batch_size: int = 256) -> NDArray[np.float32]:
    """Run a model over a split as `batches` does.

    Returns:
        float32 [n, classes] in the order of `encoded`, or [n, max_length, classes]; zeros on padding.
    """
    found: NDArray[np.float32] | None = None
    for rows, _, values in batches(model, encoded, batch_size):
        tokens = encoded.input_ids.shape[1:] if values.ndim == 3 else ()
        if found is None:
            found = np.zeros((len(encoded), *tokens, values.shape[-1]), dtype=np.float32)
        if tokens:
            found[rows, : values.shape[1]] = values
        else:
            found[rows] = values
    assert found is not None
    return found


def _linears(model: Any) -> list[torch.nn.Linear]:
    return [module for module in model.modules() if isinstance(module, torch.nn.Linear)]


def _forward(model: Any, encoded: Encoded, rows: NDArray[np.int64], width: int) -> NDArray[np.float32]:
    input_ids = torch.from_numpy(encoded.input_ids[rows, :width].astype(np.int64))
    attention_mask = torch.from_numpy(encoded.attention_mask[rows, :width].astype(np.int64))
    with torch.inference_mode():
        found: NDArray[np.float32] = model(input_ids=input_ids, attention_mask=attention_mask).logits.float().numpy()
    return found
