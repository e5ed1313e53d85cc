"""Texts with what is right of them, and what a model answers of each single item."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.core.splits import UNKNOWN
from stages.measure.top_logits import Logits, keep
from stages.models.encode import Encoded, batches, logits

Pick = Callable[[Any, Any], Any]
"""Takes values [batch, …] and their attention mask [batch, length], both of torch or both of numpy, and gives the items
of a task, [items, …], text by text: `stages.tasks.registry.Model.items`."""


@dataclass(frozen=True)
class Examples:
    """A split, encoded.

    Attributes:
        encoded: n texts.
        wanted: int64 [n] class ids, or [n, max_length] where each token has one; `UNKNOWN` where nobody knows it.
        items: picks the items.
    """

    encoded: Encoded
    wanted: NDArray[np.int64]
    items: Pick

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.encoded)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Classes of the items: int64 [items], `UNKNOWN` where nobody knows it."""
        found: NDArray[np.int64] = self.items(self.wanted, self.encoded.attention_mask)
        return found

    @property
    def case(self) -> NDArray[np.int32]:
        """Number of the text that each item belongs to: int32 [items]."""
        return case(self.items, np.arange(len(self)), self.wanted.shape, self.encoded.attention_mask)

    def answers(self, model: Any) -> NDArray[np.float32]:
        """Return a model's logits of the items: float32 [items, classes]."""
        found: NDArray[np.float32] = self.items(logits(model, self.encoded), self.encoded.attention_mask)
        return found

    def kept(self, model: Any) -> Logits:
        """Return what is kept of a model's logits of the items."""
        return kept(model, self.encoded, self.items, self.labels)

    def best(self, model: Any) -> NDArray[np.int64]:
        """Return the class that a model finds likeliest for each item, keeping no logits: int64 [items]."""
        cases, found = [], []
        for rows, mask, values in batches(model, self.encoded):
            cases.append(case(self.items, rows, values.shape[:-1], mask))
            found.append(self.items(values, mask).argmax(axis=-1))
        order = np.argsort(np.concatenate(cases), kind="stable")
        best: NDArray[np.int64] = np.concatenate(found)[order]
        return best

    def right(self, model: Any) -> NDArray[np.bool_]:
        """Say of which items with a label a model finds that label likeliest: bool [labelled items]."""
        labels = self.labels
        found: NDArray[np.bool_] = (self.best(model) == labels)[labels != UNKNOWN]
        return found

    def take(self, rows: ArrayLike) -> Examples:
        """Return some of the texts, by their numbers."""
        chosen = np.asarray(rows)
        encoded = Encoded(self.encoded.input_ids[chosen], self.encoded.attention_mask[chosen], 0)
        return Examples(encoded, self.wanted[chosen], self.items)


def case(items: Pick, rows: NDArray[np.int64], shape: tuple[int, ...], mask: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the text that each item of a batch belongs to: int32 [items].

    Args:
        items: picks the items.
        rows: [batch] numbers of the texts.
        shape: of what a model answers, classes aside.
        mask: [batch, length]
    """
    texts = rows.astype(np.int32).reshape(-1, *[1] * (len(shape) - 1))
    found: NDArray[np.int32] = items(np.broadcast_to(texts, shape), mask)
    return found


def kept(model: Any, encoded: Encoded, items: Pick, wanted: NDArray[np.int64] | None) -> Logits:
    """Return what is kept of a model's logits, batch by batch: those of a large vocabulary do not fit into memory.

    Args:
        model: a Hugging Face model with a head.
        encoded: n texts.
        items: picks the items.
        wanted: int64 [items] right classes, -1 where unknown; None where all are.
    """
    parts, places = [], []
    for rows, mask, values in batches(model, encoded):
        whole = (len(encoded), *encoded.attention_mask.shape[1:])[: values.ndim - 1]
        texts = case(items, np.arange(len(encoded)), whole, encoded.attention_mask)
        at = np.concatenate([np.flatnonzero(texts == row) for row in rows])
        picked = items(values, mask)
        parts.append(keep(picked, np.full(len(at), UNKNOWN) if wanted is None else wanted[at]))
        places.append(at)
    order = np.argsort(np.concatenate(places), kind="stable")
    classes = [part.classes for part in parts if part.classes is not None]
    return Logits(
        np.concatenate([part.values for part in parts])[order], np.concatenate(classes)[order] if classes else None
    )
