"""`probe.json`: inputs with the artifact's answers, for a client to check itself with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.core import artifact
from stages.measure.edges import EDGES
from stages.releasing.forms import of_task
from stages.releasing.source import Source
from stages.targets.base import Inputs
from stages.tasks.base import INPUTS, utterances

PROBE = "probe.json"


def write(source: Source, texts: Sequence[str] | None, bundle: Path) -> None:
    """Write the probe split and the tokenizer edge cases, each with ids and answer.

    Args:
        source: the variant.
        texts: the probe split's utterances where they may leave the build, else None: ids only.
        bundle: directory to write into.
    """
    rows = [
        _answered(source, inputs) | ({} if texts is None else {"text": texts[number]})
        for number, inputs in enumerate(utterances(source.probe))
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
        inputs = dict(zip(INPUTS, (ids, np.ones_like(ids)), strict=True))
        yield _answered(source, inputs) | {"name": name, "text": text}


def _answered(source: Source, inputs: Inputs) -> dict[str, Any]:
    return {"ids": inputs["input_ids"][0].tolist(), **of_task(source.task).answered(source, inputs)}
