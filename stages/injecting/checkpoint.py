"""Faults in what ships beside the artifact, which the bundle takes from the checkpoint; a task says which can be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def rotated_labels(checkpoint: Path) -> None:
    """The checkpoint names every class by the next one's label."""
    path = checkpoint / "config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    names = list(config["id2label"].values())
    config["id2label"] = dict(zip(config["id2label"], [*names[1:], names[0]], strict=True))
    path.write_text(json.dumps(config), encoding="utf-8")


def foreign_tokenizer(checkpoint: Path) -> None:
    """The tokenizer is of a model with the same words in another order."""
    path = checkpoint / "tokenizer.json"
    tokenizer: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    if isinstance(vocabulary, list):
        scores = [score for _, score in vocabulary]
        words = [word for word, _ in vocabulary]
        tokenizer["model"]["vocab"] = [[word, score] for word, score in zip(words[::-1], scores, strict=True)]
    else:
        plain = [word for word in vocabulary if not word.startswith("[")]
        ids = [vocabulary[word] for word in plain]
        vocabulary.update(zip(plain, ids[::-1], strict=True))
    path.write_text(json.dumps(tokenizer), encoding="utf-8")


def altered_normaliser(checkpoint: Path) -> None:
    """The tokenizer no longer lower-cases, or does where it did not."""
    path = checkpoint / "tokenizer.json"
    tokenizer: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    normaliser = tokenizer["normalizer"] or {}
    if "lowercase" in normaliser:
        normaliser["lowercase"] = not normaliser["lowercase"]
    else:
        lowers = "Lowercase" in json.dumps(normaliser)
        tokenizer["normalizer"] = None if lowers else {"type": "Lowercase"}
    path.write_text(json.dumps(tokenizer), encoding="utf-8")


def rotated_label_ids(checkpoint: Path) -> None:
    """The config's map from labels to ids is not the reverse of that from ids to labels."""
    labels = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["label2id"]
    ids = list(labels.values())
    edit_config(checkpoint, label2id=dict(zip(labels, [*ids[1:], ids[0]], strict=True)))


def edit_config(checkpoint: Path, **changes: Any) -> None:
    """Change settings of a checkpoint."""
    path = checkpoint / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


LABELS: dict[str, Callable[[Path], None]] = {fault.__name__: fault for fault in (rotated_labels, rotated_label_ids)}
"""Faults in the names of classes."""
TOKENIZER: dict[str, Callable[[Path], None]] = {
    fault.__name__: fault for fault in (foreign_tokenizer, altered_normaliser)
}
"""Faults in what makes tokens of a text."""
