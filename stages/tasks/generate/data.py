"""What a language model learns from and is judged by: texts, of which nothing more is known."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from stages.data.splits import Example, Splits
from stages.measure.statistics import mean_interval

ORDER = 5
"""Bytes of context that the honesty bar looks back on at most."""
METHOD = "5-gram over bytes, interpolated (Witten-Bell)"


def read(raw: Splits) -> Splits:
    """Return the texts; what a row says beside its text is not asked for."""
    return {split: [Example(example.text, None) for example in examples] for split, examples in raw.items()}


def stratum(example: Example) -> str:  # noqa: ARG001 (texts are of one kind)
    """Return the one kind of text there is."""
    return ""


def classes(train: Sequence[Example]) -> list[str]:  # noqa: ARG001 (they are the tokenizer's)
    """Return no names: the classes are the tokenizer's tokens."""
    return []


def honesty_bar(train: Sequence[Example], test: Sequence[Example], seed: int) -> dict[str, object]:  # noqa: ARG001
    """Measure how well the bytes before tell the next one, without any model that learns.

    Source: Witten & Bell (1991), as interpolated in Chen & Goodman, An Empirical Study of Smoothing Techniques (1999),
    section 2.4: every context hands on as many parts as it has seen different successors to the context one shorter.

    Returns:
        `bits_per_byte` on test with its 95 % interval, `n` bytes, and what the method is.
    """
    seen: dict[bytes, Counter[int]] = defaultdict(Counter)
    for example in train:
        text = example.text.encode()
        for at, byte in enumerate(text):
            for length in range(min(at, ORDER - 1) + 1):
                seen[text[at - length : at]][byte] += 1
    totals = {context: (counts.total(), len(counts)) for context, counts in seen.items()}
    bits: list[float] = []
    case: list[int] = []
    for number, example in enumerate(test):
        text = example.text.encode()
        case += [number] * len(text)
        for at, byte in enumerate(text):
            chance = 1 / 256
            for length in range(min(at, ORDER - 1) + 1):
                context = text[at - length : at]
                if context not in totals:
                    break
                count, kinds = totals[context]
                chance = (seen[context][byte] + kinds * chance) / (count + kinds)
            bits.append(-math.log2(chance))
    interval = mean_interval(np.asarray(bits), np.asarray(case))
    return {
        "bits_per_byte": sum(bits) / len(bits),
        "bits_per_byte_interval": interval,
        "method": METHOD,
        "n": len(bits),
    }
