"""In which forms clients take a model: what one is, and who has those of a task and of a target."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, get_args

from stages.core.errors import ArtifactError
from stages.core.names import module_name
from stages.schema.variant import TargetName
from stages.tasks import names
from stages.tasks import registry as tasks

if TYPE_CHECKING:
    from stages.releasing.source import Source
    from stages.releasing.tokenization import Tokenization
    from stages.schema.release import Release
    from stages.targets.base import Inputs

FIFTY = "50 of 50 CLINC150 utterances as in torch"
NOT_ASKED = "not among release.forms"

Client = dict[str, str]


@dataclass(frozen=True)
class Form:
    """One of them.

    Attributes:
        loading: what loads it, for the model card.
        samples: programs in `samples/` that do.
        configured: where the checkpoint's configuration and tokenizer lie beside it, as its clients read them.
        rules_from_file: whether these take the tokenizer's rules from its file alone.
        files: what else it needs that follows from the chain: name in the bundle → text.
    """

    loading: str
    samples: tuple[str, ...] = ()
    configured: str = ""
    rules_from_file: bool = False
    files: Callable[[Source], Mapping[str, str]] = lambda _source: {}


class TargetForms(Protocol):
    """The forms of one target's artifacts.

    Attributes:
        FORMS: all of them by name.
    """

    FORMS: Mapping[str, Form]

    def write(self, source: Source, bundle: Path, settings: Release) -> tuple[dict[str, Any], dict[str, str]]:
        """Write those that are asked for.

        Returns:
            Form → where it lies and what else a client must be told; form → why it was left out.
        """

    def clients(self, form: str, source: Source) -> list[Client]:
        """Return the oldest version of each client that was seen to answer rightly, and how that is known."""


@dataclass(frozen=True)
class Words:
    """What is said of a task's models. `{labels}` is their number, `{max_length}` what an input may have.

    Attributes:
        kind: the task as CycloneDX and Hugging Face name it: `text-classification`.
        model: what the model is, for the first sentence of its card.
        use: what it is for and what not, a paragraph of the card.
        score: how good it is, for the BOM: what it does, by `{value}` as a reader sees it and `{n}` texts.
        inputs: what an artifact is given, for the BOM; target → that, where each has its own names.
        outputs: what it gives back, likewise.
        caution: what an answer does not mean, likewise.
        truncation: `rule`, and the name of a client → how it departs from that.
    """

    kind: str
    model: str
    use: str
    score: str
    inputs: str | Mapping[str, str]
    outputs: str | Mapping[str, str]
    caution: str
    truncation: Mapping[str, str]

    def interface(self, target: str, max_length: int) -> tuple[str, str]:
        """Say what a target's artifact is given, and what it gives back."""
        said = (words if isinstance(words, str) else words[target] for words in (self.inputs, self.outputs))
        inputs, outputs = (words.format(max_length=max_length) for words in said)
        return inputs, outputs


class TaskForms(Protocol):
    """The part `forms` of a task: what of a bundle is its own.

    Attributes:
        WORDS: what is said of its models.
        FROM_DATA: files of the data set that ship as they are.
        SAMPLES: where the programs lie that its forms name.
    """

    WORDS: Words
    FROM_DATA: tuple[str, ...]
    SAMPLES: Path

    def of_target(self, target: str) -> TargetForms:
        """Return the forms of a target's artifacts; `alone(target)` where no client takes more than the artifact."""

    def labels(self, places: Mapping[str, Path]) -> list[str]:
        """Return the names of the classes in the order of the logits, none where a class is a token.

        Args:
            places: role → stage output of everything behind a bundle.

        Raises:
            ArtifactError: the checkpoint has others than the data.
        """

    def answered(self, source: Source, inputs: Inputs) -> dict[str, Any]:
        """Return what the artifact answers to one text, as `probe.json` says it."""

    def limits(self, source: Source) -> dict[str, Any]:
        """Return what else `limits.json` says: what a caller must know and no file of the checkpoint alone tells."""

    def tokenizer_settings(self, source: Tokenization) -> dict[str, Any]:
        """Return what else `tokenizer_config.json` must say to clients that do not read it in `tokenizer.json`."""

    def beside(self, source: Source) -> dict[str, str]:
        """Return further files that follow from the chain: name in the bundle → text."""

    def copies(self, bundle: Path) -> Iterator[tuple[str, str]]:
        """Name files of a bundle, whatever code wrote it, that name its classes otherwise, and say how."""

    def differences(self, bundle: Path, source: Tokenization) -> Iterator[str]:
        """Say what inside the files of forms is not what the code that lies here makes of the bundle."""

    def misnamed(self, source: Source, answered: Mapping[str, Any]) -> bool:
        """Whether an answer of `probe.json` has another name than its class."""


def of_task(task: str) -> TaskForms:
    """Import the forms of a task.

    Raises:
        ArtifactError: there is no such task; a signature may say anything.
    """
    if task not in names():
        raise ArtifactError(f"there is no task '{task}'", expected=f"one of: {', '.join(names())}")
    found: TaskForms = tasks.forms(task)
    return found


def of(source: Source) -> TargetForms:
    """Return the forms that a variant's artifact may take."""
    return of_task(source.task).of_target(source.target)


def configured(task: str) -> list[Form]:
    """Return the forms, of any target, that have the checkpoint's configuration and tokenizer beside them."""
    forms = (form for target in get_args(TargetName) for form in of_task(task).of_target(target).FORMS.values())
    return [form for form in forms if form.configured]


def alone(target: str) -> TargetForms:
    """Import the forms that an artifact of a target has whatever its task."""
    return cast(TargetForms, importlib.import_module(f"stages.releasing.{module_name(target)}"))


def client(name: str, oldest: str, established: str) -> Client:
    """Say what is known of a client."""
    return {"client": name, "established": established, "oldest_seen_right": oldest}
