"""Ask an artifact the same question in several forms: padded, above other padding, in a batch.

A mask that is ignored or inverted changes nothing at an utterance's true length, which is all that parity runs where
shapes are dynamic. On a phone the padding is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.core.splits import spread

Inputs = Mapping[str, NDArray[np.int32]]
Run = Callable[[Inputs], NDArray[np.float32]]
"""`input_ids` and `attention_mask`, int32 [batch, length] → logits of the texts' items, fp32 [items, classes]."""

UTTERANCES = 16
"""Of the probe split, spread evenly over its lengths."""


class Padding(NamedTuple):
    """What texts are padded with.

    Attributes:
        lengths: sequence lengths to pad to.
        token: the padding.
        vocabulary: ids below this one are drawn to stand under the mask.
        reach: first positions of the padding that the model does read, beyond the mask (MobileBERT's trigrams: 1).
    """

    lengths: Sequence[int]
    token: int
    vocabulary: int
    reach: int


def spread_over_lengths(probe: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """Return the rows of the probe split that are asked in other forms, shortest first, each once."""
    sizes = probe["attention_mask"].sum(axis=1)
    return np.asarray(np.argsort(sizes, kind="stable")[spread(len(sizes), UTTERANCES)])


def measure(
    run: Run,
    probe: Mapping[str, NDArray[Any]],
    padding: Padding,
    *,
    batches: bool,
    seed: int = 0,
) -> dict[str, float]:
    """Measure how far answers move when only the form of a text changes.

    Args:
        run: executes the artifact.
        probe: the reference's probe inputs, int32 [n, max_length], right-padded, and its logits.
        padding: what the texts are padded with.
        batches: whether the artifact takes more than one utterance.
        seed: of the ids under the mask.

    Returns:
        `padded`, `disturbed` (other ids under the mask) and, with `batches`, `batched`: the largest change of a logit
        over the spread of the reference's logits; inf where a changed answer is not finite.
    """
    generator = np.random.default_rng(seed)
    scale = max(float(probe["logits"].std()), float(np.finfo(np.float32).tiny))
    sizes = probe["attention_mask"].sum(axis=1)
    chosen = spread_over_lengths(probe)
    changes: dict[str, list[float]] = {"padded": [0.0], "disturbed": [0.0]} | ({"batched": [0.0]} if batches else {})
    alone = []
    for row in chosen:
        size = int(sizes[row])
        ids = probe["input_ids"][row, :size]
        plain = run(_form(ids, size, padding.token))
        alone.append(plain)
        for length in (length for length in padding.lengths if length > size):
            padded = _form(ids, length, padding.token)
            answer = run(padded)
            changes["padded"].append(change(plain, answer, scale))
            disturbed = dict(padded)
            under = np.arange(length) >= size + padding.reach
            drawn = generator.integers(0, padding.vocabulary, length, dtype=np.int32)
            disturbed["input_ids"] = np.where(under, drawn, padded["input_ids"])
            changes["disturbed"].append(change(answer, run(disturbed), scale))
    if batches:
        forms = [
            _form(probe["input_ids"][row, : sizes[row]], int(sizes[chosen].max()), padding.token) for row in chosen
        ]
        together = run({name: np.concatenate([form[name] for form in forms]) for name in forms[0]})
        changes["batched"] = [change(np.concatenate(alone), together, scale)]
    return {name: max(found) for name, found in changes.items()}


def _form(ids: NDArray[np.int32], length: int, pad_token_id: int) -> dict[str, NDArray[np.int32]]:
    mask = (np.arange(length) < len(ids)).astype(np.int32)[None]
    padded = np.full((1, length), pad_token_id, np.int32)
    padded[0, : len(ids)] = ids
    return {"input_ids": padded, "attention_mask": mask}


def change(before: NDArray[np.float32], after: NDArray[np.float32], scale: float) -> float:
    """Return the largest difference of two answers [items, classes] over `scale`; inf where one is not finite."""
    change = float(np.abs(after.astype(np.float64) - before).max()) / scale
    return change if np.isfinite(change) else float("inf")
