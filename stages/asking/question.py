"""What every client is asked: utterances of the test split, and texts at the edges of what a tokenizer is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.asking.roster import Client, file_of
from stages.core import artifact, splits
from stages.measure.metrics import softmax
from stages.schema.layout import RELEASE, behind
from stages.schema.variant import Variant
from stages.targets import registry
from stages.targets.base import Session
from stages.tasks.base import FORWARD

Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class Item:
    """A text and the token ids that the reference's tokenizer makes of it, truncated to the model's length."""

    text: str
    ids: list[int]
    name: str = ""
    """Of an edge text."""


@dataclass(frozen=True)
class Answers:
    """Probabilities of every utterance [utterances, labels], and of every edge text by the reference's ids."""

    utterances: Probabilities
    edges: Probabilities


@dataclass(frozen=True)
class Question:
    """What is asked about one bundle.

    Attributes:
        labels: names of the classes, in the order of the logits.
        max_length: tokens the model takes.
        utterances: of the test split.
        edges: texts where tokenizers are known to part ways.
        artifact: what the artifact answered in the build.
        padded: what it answers padded to `max_length`, which some clients always do: at static int8 the scales of a
            signature are its own.
        reference: what the checkpoint answered in torch, [utterances, labels].
    """

    labels: list[str]
    max_length: int
    utterances: list[Item]
    edges: list[Item]
    artifact: Answers
    padded: Answers
    reference: Probabilities

    def expected(self, client: Client) -> Answers:
        """Return what a client has to repeat."""
        return self.padded if client.form == "task" else self.artifact


def ask(key: str, variant: Variant, build: Path, wanted: int | None) -> Question:
    """Put the question about a bundle together.

    Args:
        key: the variant.
        variant: its settings.
        build: directory of all stage outputs.
        wanted: utterances of the test split, None for all.

    Raises:
        ArtifactError: a stage's output is missing or altered.
    """
    places = behind(build, key, variant.compression, variant.target)
    data, reference = artifact.require(places["data"]), places["reference"]
    bundle = build / RELEASE / key
    texts = splits.read_split(data, "test").texts
    chosen = splits.spread(len(texts), wanted or len(texts))
    test = artifact.read_arrays(artifact.require(reference) / "test.npz")
    signature = artifact.read_json(bundle / "signature.json")
    edges = [Item(edge["text"], edge["ids"], edge["name"]) for edge in _edges(bundle)]
    ids = [row[mask == 1].tolist() for row, mask in zip(test["input_ids"], test["attention_mask"], strict=True)]
    utterances = [Item(texts[index], ids[index]) for index in chosen]
    session, longest = registry.runtime(variant.target).open_runtime(bundle, 1), signature["sequence_lengths"][-1]
    own = Answers(_answers(session, utterances), _answers(session, edges))
    pads = file_of(bundle, "task") is not None
    return Question(
        labels=artifact.read_json(bundle / "labels.json"),
        max_length=longest,
        utterances=utterances,
        edges=edges,
        artifact=own,
        padded=Answers(_answers(session, utterances, longest), _answers(session, edges, longest)) if pads else own,
        reference=softmax(test["logits"][chosen]),
    )


def write(question: Question, bundle: Path, file: Path, reads_text: bool, out: Path) -> None:
    """Write what a client's program reads; one that is given ids has nothing to say about edge texts."""
    items = [*question.utterances, *(question.edges if reads_text else [])]
    artifact.write_json(
        out,
        {
            "file": str(file.resolve()),
            "items": [asdict(item) for item in items],
            "labels": question.labels,
            "max_length": question.max_length,
            "tokenizer": str((bundle / "tokenizer/tokenizer.json").resolve()),
        },
    )


def _edges(bundle: Path) -> list[dict[str, Any]]:
    return list(artifact.read_json(bundle / "probe.json")["edges"])


def _answers(session: Session, items: Sequence[Item], length: int = 0) -> Probabilities:
    """Ask a runtime by the reference's ids, padded at the end to `length` where they are fewer."""
    found = []
    for item in items:
        row, mask = np.zeros((2, 1, max(length, len(item.ids))), np.int32)
        row[0, : len(item.ids)], mask[0, : len(item.ids)] = item.ids, 1
        found.append(softmax(session.run(FORWARD, {"attention_mask": mask, "input_ids": row})["logits"]))
    return np.concatenate(found)
