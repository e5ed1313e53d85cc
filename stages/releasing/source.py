"""What the forms of a bundle are made from, and the comparison each must pass before it ships."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.core.splits import spread
from stages.releasing import tokenization
from stages.releasing.tokenization import Tokenization
from stages.schema.variant import Precision
from stages.targets import registry
from stages.targets.base import Inputs, Session, Signature
from stages.tasks import registry as tasks
from stages.tasks.base import INPUTS

Answer = Callable[[Inputs], NDArray[np.float32]]
"""Logits fp32 [batch, …] of utterances of one length."""
Arrays = Mapping[str, NDArray[np.int32]]
TEST = 250
"""Texts of the test split that forms are compared on at most, evenly spread over it; of other splits all."""
BATCH = 64
ROUNDING = 1e-6
"""How far a softmax computed inside a graph may be from one computed here, in probability."""


@dataclass(frozen=True)
class Source:
    """One variant, ready to be bundled.

    Attributes:
        key: the variant.
        target: its platform.
        precision: its settings.
        artifact: the directory that the gate judged.
        signature: how the artifact is called.
        labels: names of the classes in the order of the logits, none where a class is a token.
        config: `config.json` of the checkpoint.
        tokenization: its tokenizer.
        probe: `input_ids`, `attention_mask` int32 [n, max_length] of the probe split.
        compared: the same of what every form answers beside the artifact (`to_compare`).
        checkpoint: the directory that the artifact was converted from.
        reference: output of `reference` on it.
        tokenizer_settings: what the task has `tokenizer_config.json` say to clients.
    """

    key: str
    target: str
    precision: Precision
    artifact: Path
    signature: Signature
    labels: list[str]
    config: Mapping[str, Any]
    tokenization: Tokenization
    probe: Arrays
    compared: Arrays
    checkpoint: Path
    reference: Path
    tokenizer_settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """What the model is for."""
        return self.signature.task

    @property
    def max_length(self) -> int:
        """Tokens an input may have."""
        return self.signature.sequence_lengths[-1]

    @cached_property
    def session(self) -> Session:
        """The artifact, opened by its target's runtime."""
        return self._open(self.artifact)

    def answer(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return the artifact's logits of one text, fp32 [items, classes]."""
        return tasks.exercise(self.task).ask(self.session, inputs)

    def configure(self, out: Path, *, rules_from_file: bool = False) -> None:
        """Write the checkpoint's `config.json` and its tokenizer files, as clients take them, into a directory."""
        tokenization.write(self.tokenization, out, more=self.tokenizer_settings, rules_from_file=rules_from_file)
        artifact.write_json(out / "config.json", self.config)

    def asked(self, given: Arrays | None = None, *, batches: bool = False) -> Iterator[Inputs]:
        """Yield the inputs to compare, one utterance at a time, or several of one length where a form takes them.

        Args:
            given: inputs instead of `compared`.
            batches: whether to put those of one length together.
        """
        compared = self.compared if given is None else given
        sizes = compared["attention_mask"].sum(axis=1)
        for size in np.unique(sizes):
            rows = np.flatnonzero(sizes == size)
            step = BATCH if batches else 1
            for start in range(0, len(rows), step):
                chosen = rows[start : start + step]
                yield {name: np.ascontiguousarray(compared[name][chosen, :size]) for name in INPUTS}

    def check_directory(self, form: str, directory: Path, given: Arrays | None = None) -> None:
        """Check a form that lies in a directory as an artifact does, with its signature."""
        copy, ask = self._open(directory), tasks.exercise(self.task).ask
        self.check(form, lambda inputs: ask(copy, inputs), self.answer, given)

    def check(
        self, form: str, answer: Answer, wanted: Answer, given: Arrays | None = None, *, batches: bool = False
    ) -> None:
        """Run a form beside the artifact: it must compute the same bits, since it is the same computation.

        Args:
            form: its path in the bundle, for the message.
            answer: its logits.
            wanted: the artifact's.
            given: inputs instead of `compared`.
            batches: whether both take several utterances of one length at once.

        Raises:
            ArtifactError: they differ.
        """
        for inputs in self.asked(given, batches=batches):
            ours, theirs = wanted(inputs), answer(inputs)
            if not np.array_equal(ours, theirs):
                raise differs(form, self.key, theirs, ours)

    def _open(self, directory: Path) -> Session:
        return registry.runtime(self.target).open_runtime(directory, threads=1)


def to_compare(splits: Mapping[str, Arrays]) -> Arrays:
    """Choose what forms are compared on: every different row of the splits, few of the test split where it is long.

    Args:
        splits: `input_ids` and `attention_mask`, int32 [n, max_length], by split; `test` among them.

    Returns:
        The same two arrays.
    """
    parts = []
    for name, split in splits.items():
        rows = np.stack([split[part] for part in INPUTS], axis=1)
        parts.append(rows[spread(len(rows), TEST if name == "test" else len(rows))])
    distinct = np.unique(np.concatenate(parts), axis=0)
    return {name: np.ascontiguousarray(distinct[:, place]) for place, name in enumerate(INPUTS)}


def differs(form: str, key: str, found: NDArray[Any], wanted: NDArray[Any]) -> ArtifactError:
    """Make the error for a form that answers otherwise than its artifact."""
    if found.shape != wanted.shape:
        how = f"gives {list(found.shape)}, the artifact {list(wanted.shape)}"
    else:
        how = f"is up to {float(np.abs(found - wanted).max()):.3g} from the artifact on one text"
    return ArtifactError(
        f"'{form}' of variant '{key}' {how}",
        expected="the artifact's own answers",
        next_step="leave the form out of release.forms, and report this",
    )
