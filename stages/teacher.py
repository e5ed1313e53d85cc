"""Take in a teacher checkpoint, fine-tune an encoder, or train from nothing, and measure it on the test split.

Reads: the data's train, validation and test splits; a Hugging Face directory or hub repository where configured.
Writes: a Hugging Face directory, `test_logits.npy`, `evaluation.json`, `history.csv` where trained, `manifest.json`.
Why: everything downstream is compared with this checkpoint, so it must be complete, safe to load and about this data.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core import artifact, cli, splits
from stages.core.params import Section
from stages.core.splits import Split
from stages.measure import top_logits
from stages.schema.model import CheckpointTeacher, FinetuneTeacher, Teacher, TrainTeacher
from stages.schema.task import Task
from stages.tasks import registry as tasks

if TYPE_CHECKING:
    from stages.models.training import Row

SPLITS = ("train", "validation", "test")
TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id")
TOOLS = ("tokenizers", "torch", "transformers")


class Params(Section):
    """Where the teacher comes from, and the length it reads."""

    task: Task
    teacher: Teacher


@dataclass(frozen=True)
class Outcome:
    """A teacher in memory.

    Attributes:
        model: the Hugging Face model with its head.
        tokenizer: its fast tokenizer.
        history: the learning curve; empty where nothing was trained.
        sources: role → file it was read from, for the lineage.
        facts: how it was trained, where settings left that to the host or to chance.
    """

    model: Any
    tokenizer: Any
    history: list[Row] = field(default_factory=list)
    sources: dict[str, Path] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def import_checkpoint(teacher: CheckpointTeacher, task: Task, labels: list[str]) -> Outcome:
    """Load a checkpoint from outside, checked for safety and against the data's labels.

    Args:
        teacher: its path, revision and limits.
        task: what it must be for, and the longest token sequence it must take.
        labels: class names; the index is the class id.
    """
    from stages.models import importing

    head = tasks.model(task.name).HEAD
    with importing.opened(teacher.path, teacher.revision, teacher.limits) as (directory, files):
        model, tokenizer = importing.read(directory, labels, task.max_length, teacher.limits, head)
    return Outcome(model, tokenizer, sources=_sources(files))


def _sources(files: dict[str, Path]) -> dict[str, Path]:
    return {f"checkpoint/{name}": path for name, path in files.items()}


def finetune(
    teacher: FinetuneTeacher, task: Task, data: dict[str, Split], labels: list[str], resume: Path, read: str
) -> Outcome:
    """Put a head on a pretrained encoder and train both on the train split; the best epoch on validation is kept.

    Args:
        teacher: where the encoder lies, its limits, and how it is trained.
        task: what the model is for, and the longest token sequence.
        data: split name → utterances; train and validation are read.
        labels: class names; the index is the class id.
        resume: directory for the state of an interrupted training, which is gone on from if it is of the same inputs.
        read: digest of what else is read.
    """
    from stages.models import importing
    from stages.models.finetune import rates, use_bf16
    from stages.models.interruption import same_inputs
    from stages.models.training import fit, reproducible
    from stages.models.tuning import Tuning
    from stages.tasks.examples import examples, to_learn

    settings, head = teacher.training, tasks.model(task.name).HEAD
    with importing.opened(teacher.path, teacher.revision, teacher.limits) as (directory, files):
        with reproducible(settings.seed):
            model, tokenizer, new = importing.read_headless(directory, labels, task.max_length, teacher.limits, head)
        sources = _sources(files)
        given = {role: artifact.sha256(path) for role, path in sources.items()}
    bf16 = use_bf16(settings)
    same_inputs(resume, {"data": read, "params": teacher.model_dump() | task.model_dump(), "bf16": bf16, **given})
    tuning = Tuning(rates=rates(model, new, settings), bf16=bf16, keep_best=True, resume=resume)
    learned = to_learn(task.name, tokenizer, data["train"], labels, task.max_length)
    validation = examples(task.name, tokenizer, data["validation"], labels, task.max_length)
    history = fit(model, tokenizer, learned, validation, settings, tuning=tuning, title="fine-tune teacher")
    best = max(history, key=lambda row: (row.validation_accuracy, row.step))
    kept = {"epoch": best.epoch, "validation_accuracy": best.validation_accuracy}
    return Outcome(
        model, tokenizer, history, sources, {"fine_tuned": {"arithmetic": "bf16" if bf16 else "fp32", **kept}}
    )


def train(teacher: TrainTeacher, task: Task, data: dict[str, Split], labels: list[str]) -> Outcome:
    """Train a tokenizer and a model on the train split alone.

    Args:
        teacher: shape and training settings.
        task: what the model is for, and the longest token sequence.
        data: split name → utterances; train and validation are read.
        labels: class names; the index is the class id.
    """
    from stages.models.families import find
    from stages.models.heads import class_with
    from stages.models.shapes import teacher_config
    from stages.models.training import fit, reproducible
    from stages.models.vocabulary import train_byte_pairs, train_tokenizer
    from stages.tasks.examples import examples, to_learn

    asked = tasks.model(task.name)
    kind = class_with(find(teacher.family), asked.HEAD)
    learn = train_byte_pairs if asked.CONTINUES else train_tokenizer
    tokenizer = learn(data["train"].texts, teacher.vocabulary_size, task.max_length)
    tokens = {name: getattr(tokenizer, name) for name in TOKENS}
    config = teacher_config(teacher, len(tokenizer), task.max_length, labels, tokens)
    with reproducible(teacher.training.seed):
        model = kind._from_config(config, attn_implementation="eager")
    learned = to_learn(task.name, tokenizer, data["train"], labels, task.max_length)
    validation = examples(task.name, tokenizer, data["validation"], labels, task.max_length)
    history = fit(model, tokenizer, learned, validation, teacher.training, title="train teacher")
    return Outcome(model, tokenizer, history)


def run(settings: Params, data: Path, out: Path) -> None:
    """Produce the teacher's directory.

    Args:
        settings: task and teacher.
        data: output of `prepare`.
        out: directory to write.
    """
    from stages.models import checkpoint, training
    from stages.tasks.examples import examples
    from stages.tasks.scoring import evaluation, exposure

    artifact.require(data)
    labels = splits.read_labels(data)
    interrupted = out.with_name(f".{out.name}.interrupted")
    utterances, task = {name: splits.read_split(data, name) for name in SPLITS}, settings.task
    if isinstance(settings.teacher, TrainTeacher):
        outcome = train(settings.teacher, task, utterances, labels)
    elif isinstance(settings.teacher, FinetuneTeacher):
        outcome = finetune(settings.teacher, task, utterances, labels, interrupted, artifact.digest(data))
    else:
        outcome = import_checkpoint(settings.teacher, task, labels)
    test = examples(task.name, outcome.tokenizer, utterances["test"], labels, task.max_length)
    found = test.kept(outcome.model)
    scores = evaluation(task.name, outcome.model, test.case, test.labels, found)
    beside_bar = tasks.model(task.name).beside_bar
    scores |= beside_bar(outcome.model, outcome.tokenizer, utterances["test"].texts, task.max_length)
    if outcome.history:
        scores |= exposure(task.name, outcome.model, outcome.tokenizer, data)
    parents = {"data": data, **outcome.sources}
    with artifact.writing(
        out, stage="teacher", parents=parents, params=settings, tools=TOOLS, facts=outcome.facts
    ) as temporary:
        checkpoint.save(outcome.model, outcome.tokenizer, temporary)
        # Under the class that every later stage will load it by, which the family chooses.
        checkpoint.save_tokenizer(checkpoint.load_tokenizer(temporary), temporary)
        top_logits.save(found, temporary)
        artifact.write_json(temporary / "evaluation.json", scores)
        if outcome.history:
            training.write_history(temporary / "history.csv", outcome.history)
    shutil.rmtree(interrupted, ignore_errors=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.stage(__doc__, argv, run, Params, "data", "out")


if __name__ == "__main__":
    sys.exit(main())
