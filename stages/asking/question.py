"""What every client is asked: utterances of the test split, and texts at the edges of what a tokenizer is given."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact
from stages.schema.variant import Variant
from stages.targets.base import Runtime
from stages.targets.registry import load

Probabilities = NDArray[np.float32]


@dataclass(frozen=True)
class Item:
    """A text and the token ids that the reference's tokenizer makes of it, truncated to the model's length."""

    text: str
    ids: list[int]
    name: str = ""
    """Of an edge text."""


@dataclass(frozen=True)
class Question:
    """What is asked about one bundle.

    Attributes:
        labels: names of the classes, in the order of the logits.
        max_length: tokens the model takes.
        utterances: of the test split.
        edges: texts where tokenizers are known to part ways.
        artifact: what the artifact answered in the build, [utterances, labels].
        reference: what the checkpoint answered in torch, [utterances, labels].
        edge_artifact: what the artifact answers to the reference's ids of the edge texts, [edges, labels].
    """

    labels: list[str]
    max_length: int
    utterances: list[Item]
    edges: list[Item]
    artifact: Probabilities
    reference: Probabilities
    edge_artifact: Probabilities


def softmax(logits: NDArray[np.float32]) -> Probabilities:
    """Return probabilities over the last axis."""
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=-1, keepdims=True), np.float32)


def spread(total: int, wanted: int) -> list[int]:
    """Choose items evenly over a split, which may be sorted by class; all of them where it has no more."""
    return [index * total // wanted for index in range(wanted)] if wanted < total else list(range(total))


def ask(key: str, variant: Variant, build: Path, utterances: int | None) -> Question:
    """Put the question about a bundle together.

    Args:
        key: the variant.
        variant: its settings.
        build: directory of all stage outputs.
        utterances: of the test split, None for all.

    Raises:
        ArtifactError: a stage's output is missing or altered.
    """
    data, reference = artifact.require(build / "data"), build / "reference" / variant.compression
    parity, bundle = artifact.require(build / "parity" / key), build / "release" / key
    lines = (data / "test.jsonl").read_text().splitlines()
    chosen = spread(len(lines), utterances or len(lines))
    test = artifact.read_arrays(artifact.require(reference) / "test.npz")
    signature = artifact.read_json(bundle / "signature.json")
    edges = [Item(edge["text"], edge["ids"], edge["name"]) for edge in _edges(bundle)]
    runtime = load(variant.target, "runtime").open_runtime(bundle, 1)
    ids = [row[mask == 1].tolist() for row, mask in zip(test["input_ids"], test["attention_mask"], strict=True)]
    return Question(
        labels=artifact.read_json(bundle / "labels.json"),
        max_length=signature["sequence_lengths"][-1],
        utterances=[Item(json.loads(lines[index])["text"], ids[index]) for index in chosen],
        edges=edges,
        artifact=softmax(artifact.read_arrays(parity / "outputs.npz")["test"][chosen]),
        reference=softmax(test["logits"][chosen]),
        edge_artifact=np.concatenate([_answer(runtime, edge.ids) for edge in edges]),
    )


def write(question: Question, file: Path, reads_text: bool, out: Path) -> None:
    """Write what a client's program reads; one that is given ids has nothing to say about edge texts."""
    items = [*question.utterances, *(question.edges if reads_text else [])]
    artifact.write_json(
        out,
        {
            "file": str(file.resolve()),
            "items": [asdict(item) for item in items],
            "labels": question.labels,
            "max_length": question.max_length,
        },
    )


def _edges(bundle: Path) -> list[dict[str, Any]]:
    return list(artifact.read_json(bundle / "probe.json")["edges"])


def _answer(runtime: Runtime, ids: list[int]) -> Probabilities:
    row = np.array([ids], np.int32)
    return softmax(runtime.run({"attention_mask": np.ones_like(row), "input_ids": row})["logits"])
