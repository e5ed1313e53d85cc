"""What every client is asked: texts that its task chooses, and those at the edges of what a tokenizer is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.asking.answers import Answer, Item, of_task
from stages.asking.roster import Client, file_of
from stages.core import artifact
from stages.schema.layout import RELEASE, behind
from stages.schema.variant import Variant
from stages.targets import registry
from stages.targets.base import read_signature
from stages.tasks.base import INPUTS, Arrays


@dataclass(frozen=True)
class Answers:
    """To every utterance, and to every edge text by the reference's ids."""

    utterances: Sequence[Answer]
    edges: Sequence[Answer]


@dataclass(frozen=True)
class Question:
    """What is asked about one bundle.

    Attributes:
        task: what the artifact is for.
        labels: names of the classes in the order of the logits, none where a class is a token.
        max_length: tokens the model takes.
        utterances: texts that the task chooses.
        edges: texts where tokenizers are known to part ways.
        artifact: what the artifact answered in the build.
        padded: what it answers padded to `max_length`, which some clients always do: at static int8 the scales of a
            signature are its own.
        reference: what the checkpoint answered in torch to the utterances.
    """

    task: str
    labels: list[str]
    max_length: int
    utterances: list[Item]
    edges: list[Item]
    artifact: Answers
    padded: Answers
    reference: Sequence[Answer]

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
    for role in ("data", "reference"):
        artifact.require(places[role])
    bundle = build / RELEASE / key
    signature = read_signature(bundle)
    task = of_task(signature.task)
    edges = [Item(edge["text"], edge["ids"], edge["name"]) for edge in _edges(bundle)]
    utterances, reference = map(list, zip(*task.asked(places, bundle, wanted), strict=True))
    session, longest = registry.runtime(variant.target).open_runtime(bundle, 1), signature.sequence_lengths[-1]

    def answers(length: int = 0) -> Answers:
        found = ([task.own(session, _inputs(item, length), item) for item in items] for items in (utterances, edges))
        return Answers(*found)

    own = answers()
    pads = file_of(bundle, "task") is not None
    return Question(
        task=signature.task,
        labels=artifact.read_json(bundle / "labels.json") if (bundle / "labels.json").is_file() else [],
        max_length=longest,
        utterances=utterances,
        edges=edges,
        artifact=own,
        padded=answers(longest) if pads else own,
        reference=reference,
    )


def write(question: Question, bundle: Path, file: Path, reads_text: bool, out: Path) -> None:
    """Write what a client's program reads; one that is given ids has nothing to say about edge texts."""
    items = [*question.utterances, *(question.edges if reads_text else [])]
    artifact.write_json(
        out,
        {
            "file": str(file.resolve()),
            "items": [{**item.asked, "ids": item.ids, "name": item.name, "text": item.text} for item in items],
            "labels": question.labels,
            "max_length": question.max_length,
            "tokenizer": str((bundle / "tokenizer/tokenizer.json").resolve()),
        },
    )


def _edges(bundle: Path) -> list[dict[str, Any]]:
    return list(artifact.read_json(bundle / "probe.json")["edges"])


def _inputs(item: Item, length: int) -> Arrays:
    """Return the reference's ids and their mask, padded at the end to `length` where they are fewer: int32 [1, n]."""
    row, mask = np.zeros((2, 1, max(length, len(item.ids))), np.int32)
    row[0, : len(item.ids)], mask[0, : len(item.ids)] = item.ids, 1
    return dict(zip(INPUTS, (row, mask), strict=True))
