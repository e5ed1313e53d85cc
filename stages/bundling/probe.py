"""`probe.json`: inputs with the artifact's answers, for a client to check itself with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.bundling.source import Source
from stages.core import artifact
from stages.measure.edges import EDGES
from stages.measure.metrics import softmax
from stages.targets.base import utterances
from stages.tasks.base import INPUTS

PROBE = "probe.json"
DIGITS = 6
"""Decimals of a probability: beyond them, one processor's arithmetic is not another's."""


def write(source: Source, texts: Sequence[str] | None, bundle: Path) -> None:
    """Write the probe split and the tokenizer edge cases, each with ids and answer.

    Args:
        source: the variant.
        texts: the probe split's utterances where they may leave the build, else None: ids only.
        bundle: directory to write into.
    """
    rows = [
        _answered(source, inputs["input_ids"][0], logits) | ({} if texts is None else {"text": texts[number]})
        for number, (inputs, logits) in enumerate(zip(utterances(source.probe), source.logits, strict=True))
    ]
    artifact.write_json(
        bundle / PROBE,
        {
            "computed_by": source.session.label,
            "edges": list(_edges(source)),
            "max_length": source.max_length,
            "utterances": rows,
        },
    )


def _edges(source: Source) -> Iterator[dict[str, Any]]:
    for name, text in EDGES.items():
        ids = np.array([source.tokenization.encode(text)], np.int32)
        logits = source.answer(dict(zip(INPUTS, (ids, np.ones_like(ids)), strict=True)))
        yield _answered(source, ids[0], logits[0]) | {"name": name, "text": text}


def _answered(source: Source, ids: NDArray[np.int32], logits: NDArray[np.float32]) -> dict[str, Any]:
    (probabilities,) = softmax(logits[None])
    index = int(probabilities.argmax())
    return {
        "ids": ids.tolist(),
        "index": index,
        "label": source.labels[index],
        "probability": round(float(probabilities[index]), DIGITS),
    }
