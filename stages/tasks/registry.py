"""What the parts of a task offer, and how to find one by the task's name; nothing else knows where they lie.

A part is a module of the task's package, imported when it is asked for and without the others, as those of a target are
(`targets.registry`): what reads verdicts must not import torch.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stages.tasks import folder, names
from stages.tasks.base import Arrays, Call, Session, Timed

if TYPE_CHECKING:
    from stages.core.splits import Canary
    from stages.data.splits import Example, Splits
    from stages.measure.invariance import Padding
    from stages.measure.items import Answers
    from stages.schema.measured import Greedy, Part
    from stages.schema.task import Task


class Data(Protocol):
    """Makes what the task learns from and is judged by out of a data set's rows."""

    def read(self, raw: Splits) -> Splits:
        """Return the rows as the task's examples.

        Raises:
            InputError: nothing can be trained or judged on them.
        """

    def stratum(self, example: Example) -> str:
        """Name what an example is one of, so that parts of a split hold each kind in its share."""

    def classes(self, train: Sequence[Example]) -> list[str]:
        """Name the classes of an item in the order of the logits, for `labels.json`; empty where they are tokens."""

    def honesty_bar(self, train: Sequence[Example], test: Sequence[Example], seed: int) -> dict[str, object]:
        """Measure what a model that is no transformer reaches: metric, its interval, `n`, `method`."""


class Model(Protocol):
    """Tells how the task's checkpoints answer.

    Attributes:
        HEAD: what the names of their classes in transformers end with.
        CONTINUES: whether they continue texts: such models learn from one stream of them, and spell what they say.
    """

    HEAD: str
    CONTINUES: bool

    def wanted(
        self, tokenizer: Any, texts: Sequence[str], labels: Sequence[str | None], encoded: Any, classes: Sequence[str]
    ) -> NDArray[np.int64]:
        """Return what is right: int64 [n], or [n, max_length] where a text has many items; -1 where it is not known."""

    def items(self, values: Any, attention_mask: Any) -> Any:
        """Pick the items out of what a forward pass gives, or of what `wanted` gives, text by text.

        Args:
            values: [batch, …], a tensor of torch or an array of numpy.
            attention_mask: [batch, length], of the same library.

        Returns:
            [items, …]
        """

    def beside_bar(self, model: Any, tokenizer: Any, texts: Sequence[str], max_length: int) -> Mapping[str, Any]:
        """Measure a checkpoint as the honesty bar is measured, where that is another metric than the task's own.

        Args:
            model: a checkpoint in eval mode.
            tokenizer: its tokenizer.
            texts: of the test split.
            max_length: most tokens that it may read at once.

        Returns:
            The bar's metric by its name, and `NAME_interval` (95 %); nothing where there is nothing to add.
        """

    def exposure(self, model: Any, tokenizer: Any, canaries: Sequence[Canary]) -> Mapping[str, Any]:
        """Measure how much a checkpoint tells of its training text.

        Args:
            model: a checkpoint in eval mode.
            tokenizer: its tokenizer.
            canaries: of its training text.

        Returns:
            `most`: bits of a secret told outright; `bits`: for each number of insertions, ascending, `repeats` and the
            exposure of each of its secrets.
        """

    def greedy(self, model: Any, tokenizer: Any, texts: Sequence[str], room: int) -> Mapping[str, NDArray[Any]]:
        """Write texts on with the likeliest token each time, until there is no more room; a task may write none.

        Args:
            model: a checkpoint in eval mode.
            tokenizer: its tokenizer.
            texts: of the test split, some of which are begun with.
            room: tokens of a text in all.

        Returns:
            What `Exercise.greedy` compares with.
        """


class Interface(Protocol):
    """Says how an artifact of the task is called, and gives the module that converters see."""

    def calls(self, task: Task) -> tuple[Call, ...]:
        """Return the calls of an artifact."""

    def load(self, checkpoint: Path, task: Task) -> Any:
        """Return the torch module to convert, in eval mode."""


class Exercise(Protocol):
    """Runs an opened artifact, or a converted model.

    Items are in the order of the texts, and those of one text in the order that the reference has them.
    """

    def case(self, split: Arrays) -> NDArray[np.int32]:
        """Return the text that each item of a split belongs to: int32 [items], ascending."""

    def ask(self, session: Session, inputs: Arrays) -> NDArray[np.float32]:
        """Return the logits of the items of texts, fp32 [items, classes].

        Args:
            session: what answers.
            inputs: int32 [texts, length], right-padded where one is shorter.

        Raises:
            ArtifactError: it fails while it runs.
        """

    def answer(self, session: Session, split: Arrays) -> Iterator[NDArray[np.float32]]:
        """Ask as an app would, and yield of each text the logits of its items, fp32 [items, classes].

        Text by text, because over a large vocabulary those of a whole split do not fit into memory.

        Raises:
            ArtifactError: it fails while it runs.
        """

    def forms(self, session: Session, probe: Arrays, padding: Padding) -> dict[str, float]:
        """Ask for texts in forms that must not matter.

        Args:
            session: what answers.
            probe: the reference's inputs and logits of some texts.
            padding: what an app may pad a text with.

        Returns:
            Form → the largest change of a logit over the spread of the reference's, inf where one is not finite.
        """

    def greedy(self, session: Session, wanted: Arrays, spread: float) -> Greedy:
        """Write the same texts on as `Model.greedy` did, and say where another token is likeliest.

        Args:
            session: what answers.
            wanted: what that gave.
            spread: standard deviation of the reference's logits.

        Raises:
            ArtifactError: it fails while it runs.
        """

    def timed(self, split: Arrays) -> Mapping[str, Sequence[Timed]]:
        """Return kind of call → the calls of the texts of a split; the kinds are those of the task's facts."""


class Quality(Protocol):
    """Measures how good answers are."""

    def measure(
        self, case: NDArray[np.int32], wanted: NDArray[np.int64], given: Answers, reference: Answers, teacher: Answers
    ) -> Part:
        """Return values, 95 % intervals and the items behind each, paired with the reference and the teacher.

        Args:
            case: [items] the text that each belongs to.
            wanted: [items] the right class, -1 where it is not known.
            given: the answers to measure; parity gives only finite ones.
            reference: those of the checkpoint that was converted.
            teacher: those of the teacher.
        """


def _part(name: str, task: str) -> Any:
    return importlib.import_module(f"stages.tasks.{folder(task)}.{name}")


# A task's name → its part.
data: Callable[[str], Data] = partial(_part, "data")
model: Callable[[str], Model] = partial(_part, "model")
interface: Callable[[str], Interface] = partial(_part, "interface")
exercise: Callable[[str], Exercise] = partial(_part, "exercise")
quality: Callable[[str], Quality] = partial(_part, "quality")
# What these offer say the rooms that ask for them, which stand above this one: `releasing.forms.TaskForms`,
# `injecting.inject.TaskFaults`, `asking.answers.TaskClients` and `reporting.demo.TaskPage`.
forms: Callable[[str], Any] = partial(_part, "forms")
faults: Callable[[str], Any] = partial(_part, "faults")
clients: Callable[[str], Any] = partial(_part, "clients")
page: Callable[[str], Any] = partial(_part, "page")


def offers(task: str, part: str) -> bool:
    """Whether there is such a task, and it has a part that not every one needs."""
    return task in names() and importlib.util.find_spec(f"stages.tasks.{folder(task)}.{part}") is not None
