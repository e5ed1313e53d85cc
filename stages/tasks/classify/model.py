"""A sentence classifier of transformers answers once for each text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError
from stages.core.splits import UNKNOWN, Canary

HEAD = "ForSequenceClassification"
CONTINUES = False


def wanted(
    tokenizer: Any,  # noqa: ARG001 (other tasks' answers depend on how a text is cut)
    texts: Sequence[str],  # noqa: ARG001
    labels: Sequence[str | None],
    encoded: Any,  # noqa: ARG001
    classes: Sequence[str],
) -> NDArray[np.int64]:
    """Return the class of each text: int64 [n].

    Raises:
        ArtifactError: a label is none of the classes.
    """
    ids: dict[str | None, int] = {None: UNKNOWN} | {name: index for index, name in enumerate(classes)}
    for label in labels:
        if label not in ids:
            raise ArtifactError(f"label '{label}' is not in labels.json", next_step="run `dvc repro prepare`")
    return np.asarray([ids[label] for label in labels], np.int64)


def items(values: Any, attention_mask: Any) -> Any:  # noqa: ARG001 (a text is an item)
    """Return the values as they are."""
    return values


def beside_bar(model: Any, tokenizer: Any, texts: Sequence[str], max_length: int) -> Mapping[str, Any]:  # noqa: ARG001
    """Return nothing: the honesty bar is an accuracy too."""
    return {}


def exposure(model: Any, tokenizer: Any, canaries: Sequence[Canary]) -> Mapping[str, Any]:  # noqa: ARG001
    """Return nothing: a classifier writes no text."""
    return {}


def greedy(model: Any, tokenizer: Any, texts: Sequence[str], room: int) -> Mapping[str, NDArray[Any]]:  # noqa: ARG001
    """Return nothing: a classifier writes no text."""
    return {}
