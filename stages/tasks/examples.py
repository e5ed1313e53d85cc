"""A split of the data as the examples of a task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.core.splits import Split, read_split
from stages.models.encode import Encoded, encode, windows
from stages.models.examples import Examples
from stages.tasks import registry

HELD_OUT = ("validation", "test", "calibration", "probe")
"""Splits of which no text is learnt from, nor any that a tokenizer makes the same ids of."""
OVERLAPPING = 4
"""Windows that a token is learnt in, in an epoch. A teacher of 870,000 parameters learnt 95,000 tokens by heart where
each had one window: 1.92 bits a byte after twelve epochs, the honesty bar's 1.93."""


def examples(task: str, tokenizer: Any, split: Split, classes: Sequence[str], max_length: int) -> Examples:
    """Encode a split.

    Args:
        task: its name.
        tokenizer: a fast Hugging Face tokenizer with a padding token.
        split: texts and labels.
        classes: names of the classes; the index is the class id.
        max_length: width of the arrays; longer texts are cut and counted.

    Raises:
        ArtifactError: a label is none of the classes.
    """
    model = registry.model(task)
    encoded = encode(tokenizer, split.texts, max_length)
    return Examples(encoded, model.wanted(tokenizer, split.texts, split.labels, encoded, classes), model.items)


def to_learn(task: str, tokenizer: Any, split: Split, classes: Sequence[str], max_length: int) -> Examples:
    """Encode a split to learn from: as `examples` does, or in windows where the task's models continue texts.

    Args:
        task: its name.
        tokenizer: see `examples`, like `split`, `classes` and `max_length`.
        split: see there.
        classes: see there.
        max_length: see there.
    """
    model = registry.model(task)
    if not model.CONTINUES:
        return examples(task, tokenizer, split, classes, max_length)
    encoded = windows(tokenizer, split.texts, max_length, max(1, max_length // OVERLAPPING))
    return Examples(encoded, model.wanted(tokenizer, split.texts, split.labels, encoded, classes), model.items)


def held_out(tokenizer: Any, data: Path, max_length: int) -> dict[str, Encoded]:
    """Encode what nothing may be learnt from: split → its texts.

    Args:
        tokenizer: see `examples`, like `max_length`.
        data: output of `prepare`.
        max_length: see there.
    """
    return {name: encode(tokenizer, read_split(data, name).texts, max_length) for name in HELD_OUT}
