"""What a client answers to a text, and how that is held to the artifact's own: the part `clients` of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from stages.asking.roster import Client, file_of
from stages.schema.clients import Bound
from stages.targets.base import Session, read_signature
from stages.tasks import names
from stages.tasks import registry as tasks
from stages.tasks.base import Arrays

Answer = Any
"""To one text: probabilities of labels, or the tokens and the text that follow; whatever its task compares."""
Given = Mapping[str, Any]
"""What a client's program says of one text: `ids` (None where it shows none), `ms`, and what its task asks for."""


@dataclass(frozen=True)
class Item:
    """A text and the token ids that the reference's tokenizer makes of it, truncated to the model's length.

    Attributes:
        text: what a client is given.
        ids: of the text.
        name: of an edge text.
        asked: what else the task tells a client's program of it.
    """

    text: str
    ids: list[int]
    name: str = ""
    asked: Mapping[str, Any] = field(default_factory=dict)


class TaskClients(Protocol):
    """The part `clients` of a task, which one has that clients are known to take.

    Attributes:
        CLIENTS: all of them, in the order in which they are asked.
    """

    CLIENTS: tuple[Client, ...]

    def asked(self, places: Mapping[str, Path], bundle: Path, wanted: int | None) -> list[tuple[Item, Answer]]:
        """Return the texts to ask, each with what the checkpoint answered in torch.

        Args:
            places: role → stage output of everything behind the bundle.
            bundle: its directory.
            wanted: texts of the test split, None for all, where the task asks those.
        """

    def own(self, session: Session, inputs: Arrays, item: Item) -> Answer:
        """Return what the artifact answers to one text, by the reference's ids; to an edge text what it is held to."""

    def compare(self, given: Sequence[Given], own: Sequence[Answer], reference: Sequence[Answer]) -> dict[str, float]:
        """Measure how nearly a client repeats the artifact: `n`, `top1_agreement`, and what else is bounded."""

    def said(self, found: Mapping[str, float]) -> str:
        """Say in a few words how near the answers are."""

    def objections(self, found: Mapping[str, float], bound: Bound) -> list[str]:
        """Say what of `compare` is beyond its bound."""

    def otherwise(self, given: Given, own: Answer, found: Mapping[str, float]) -> bool:
        """Whether an answer is further from the artifact's than those that `compare` found account for.

        Of an edge text whose tokens a client does not show: they are others then.
        """


def of_task(task: str) -> TaskClients:
    """Import what a task's clients answer."""
    found: TaskClients = tasks.clients(task)
    return found


def everyone() -> list[Client]:
    """Return the clients of all tasks that have some."""
    return [client for task in names() if tasks.offers(task, "clients") for client in of_task(task).CLIENTS]


def taking(bundle: Path) -> list[Client]:
    """Return the clients of a bundle's task that take a form which it has."""
    task = read_signature(bundle).task
    known = of_task(task).CLIENTS if tasks.offers(task, "clients") else ()
    return [client for client in known if file_of(bundle, client.form)]
