"""Take in a teacher checkpoint, or train one, and measure it on the test split.

Reads: the data's train, validation and test splits; a Hugging Face directory or hub repository where configured.
Writes: a Hugging Face directory, `test_logits.npy`, `evaluation.json`, `history.csv` where trained, `manifest.json`.
Why: everything downstream is compared with this checkpoint, so it must be complete, safe to load and about this data.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.core import artifact, cli, splits
from stages.core.params import Section
from stages.core.splits import Split
from stages.schema.model import CheckpointTeacher, Teacher, TrainTeacher
from stages.schema.task import Task

if TYPE_CHECKING:
    from stages.models.training import Row

SPLITS = ("train", "validation", "test")
TOOLS = ("tokenizers", "torch", "transformers")


class Params(Section):
    """Where the teacher comes from, and the length it reads."""

    task: Task
    teacher: Teacher


@dataclass(frozen=True)
class Outcome:
    """A teacher in memory.

    Attributes:
        model: the Hugging Face sequence classifier.
        tokenizer: its fast tokenizer.
        history: the learning curve; empty where nothing was trained.
        sources: role → file it was read from, for the lineage.
    """

    model: Any
    tokenizer: Any
    history: list[Row] = field(default_factory=list)
    sources: dict[str, Path] = field(default_factory=dict)


def import_checkpoint(teacher: CheckpointTeacher, labels: list[str], max_length: int) -> Outcome:
    """Load a checkpoint from outside, checked for safety and against the data's labels.

    Args:
        teacher: its path, revision and limits.
        labels: class names; the index is the class id.
        max_length: longest token sequence it must take.
    """
    from stages.models import importing, quarantine

    directory = importing.locate(teacher.path, teacher.revision)
    model, tokenizer = importing.read(directory, labels, max_length, teacher.limits)
    files = {name: directory / name for name in quarantine.LOADED if (directory / name).is_file()}
    return Outcome(model, tokenizer, sources={f"checkpoint/{name}": path for name, path in files.items()})


def train(teacher: TrainTeacher, data: dict[str, Split], labels: list[str], max_length: int) -> Outcome:
    """Train a tokenizer and a classifier on the train split alone.

    Args:
        teacher: shape and training settings.
        data: split name → utterances; train and validation are read.
        labels: class names; the index is the class id.
        max_length: longest token sequence.
    """
    from transformers import AutoModelForSequenceClassification

    from stages.models.encode import encode
    from stages.models.shapes import teacher_config
    from stages.models.training import Examples, fit, reproducible
    from stages.models.vocabulary import train_tokenizer

    tokenizer = train_tokenizer(data["train"].texts, teacher.vocabulary_size, max_length)
    config = teacher_config(teacher, len(tokenizer), max_length, labels)
    with reproducible(teacher.training.seed):
        model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
    examples = {
        name: Examples(encode(tokenizer, data[name].texts, max_length), data[name].labels)
        for name in ("train", "validation")
    }
    history = fit(model, tokenizer, examples["train"], examples["validation"], teacher.training, title="train teacher")
    return Outcome(model, tokenizer, history)


def run(settings: Params, data: Path, out: Path) -> None:
    """Produce the teacher's directory.

    Args:
        settings: task and teacher.
        data: output of `prepare`.
        out: directory to write.
    """
    from stages.models import checkpoint, training
    from stages.models.encode import encode, logits
    from stages.models.evaluation import evaluation

    artifact.require(data)
    labels = splits.read_labels(data)
    utterances = {name: splits.read_split(data, name) for name in SPLITS}
    max_length = settings.task.max_length
    if isinstance(settings.teacher, TrainTeacher):
        outcome = train(settings.teacher, utterances, labels, max_length)
    else:
        outcome = import_checkpoint(settings.teacher, labels, max_length)
    encoded = {name: encode(outcome.tokenizer, split.texts, max_length) for name, split in utterances.items()}
    found = logits(outcome.model, encoded["test"])
    scores = evaluation(outcome.model, found, utterances["test"].labels, encoded)
    parents = {"data": data, **outcome.sources}
    with artifact.writing(out, stage="teacher", parents=parents, params=settings, tools=TOOLS) as temporary:
        checkpoint.save(outcome.model, outcome.tokenizer, temporary)
        np.save(temporary / "test_logits.npy", found)
        artifact.write_json(temporary / "evaluation.json", scores)
        if outcome.history:
            training.write_history(temporary / "history.csv", outcome.history)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.stage(__doc__, argv, run, Params, "data", "out")


if __name__ == "__main__":
    sys.exit(main())
