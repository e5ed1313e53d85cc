"""Texts that the teacher wrote: `sample` lets it, before this reads them."""

from __future__ import annotations

from pathlib import Path

from stages.core import artifact
from stages.core.errors import InputError
from stages.data.splits import Example, Source, normalise
from stages.schema.data import Samples

FEWEST = 64
"""Different texts that are needed to be split at all."""


def load(data: Samples) -> Source:
    """Take the first texts for the test and the next for validation: each was written by itself, so that any will do.

    Raises:
        InputError: too few texts differ.
    """
    path = artifact.require(Path(Samples.PLACE)) / Samples.NAME
    texts = list({normalise(text): text for text in artifact.read_json(path) if normalise(text)}.values())
    if len(texts) < FEWEST:
        raise InputError(
            f"the teacher wrote {len(texts)} different texts",
            expected=f"{FEWEST} or more",
            next_step="raise data.texts, or data.temperature",
        )
    examples = [Example(text, None) for text in texts]
    test = max(1, round(data.test_share * len(examples)))
    validation = test + max(1, round(data.validation_share * len(examples)))
    splits = {"test": examples[:test], "validation": examples[test:validation], "train": examples[validation:]}
    return Source(splits, {path.name: path})
