"""Distil the teacher into a smaller student of its family, or pass the teacher through.

Reads: the data's train, validation and test splits; the teacher.
Writes: a Hugging Face directory, `test_logits.npy`, `evaluation.json`, `history.csv` where trained, `manifest.json`.
Why: a student that fits a phone learns more from what the teacher thinks of a text than from its label alone.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact, cli, splits
from stages.core.params import Section
from stages.measure import top_logits
from stages.measure.statistics import rate_interval
from stages.measure.top_logits import Logits, best
from stages.schema.model import Distill, NoStudent, Shape, Student
from stages.schema.task import Task
from stages.tasks import registry as tasks

if TYPE_CHECKING:
    from stages.models.examples import Examples
    from stages.models.training import Row

TOOLS = ("tokenizers", "torch", "transformers")
# What `teacher` writes beside the Hugging Face files.
RESULTS = {"evaluation.json", "history.csv", top_logits.WHOLE, top_logits.CUT}


class Params(Section):
    """The student's shape and how it learns."""

    task: Task
    student: Student
    distill: Distill


def distil(
    teacher: Any,
    tokenizer: Any,
    shape: Shape,
    settings: Distill,
    examples: Mapping[str, Examples],
) -> tuple[Any, list[Row]]:
    """Train a student on the train split and altered copies of it, all answered by the teacher beforehand.

    Args:
        teacher: a Hugging Face model with a head.
        tokenizer: of the teacher, hence of the student.
        shape: of the student.
        settings: weights of the loss, augmentation, training.
        examples: of train and validation.

    Returns:
        The student in eval mode and its learning curve.
    """
    from stages.models import augment, student
    from stages.models.objective import Guidance, remembered
    from stages.models.training import fit, reproducible

    seed = settings.training.seed
    pool = augment.pool(examples["train"], settings.augmentations, tokenizer, seed)
    with reproducible(seed):
        answers = remembered(teacher, pool.encoded)
    guidance = Guidance(
        logits=answers,
        temperature=settings.temperature,
        kl_weight=settings.kl_weight,
        ce_weight=settings.ce_weight,
        hidden_weight=settings.hidden_weight,
        teacher=teacher,
    )
    model = student.build(teacher, shape, seed)
    history = fit(model, tokenizer, pool, examples["validation"], settings.training, guidance=guidance, title="distil")
    return model, history


def agreement(student: Logits, teacher: Logits, case: NDArray[np.integer[Any]]) -> dict[str, Any]:
    """Share of the test split's items that student and teacher answer alike, with its 95 % interval.

    Args:
        student: its logits.
        teacher: its logits, same order.
        case: [items] the text that each belongs to.
    """
    same = best(*student) == best(*teacher)
    return {
        "agreement_with_teacher": int(same.sum()) / len(same),
        "agreement_with_teacher_interval": list(rate_interval(same, case)),
    }


def pass_through(settings: Params, data: Path, teacher: Path, out: Path) -> None:
    """Write the teacher's own files as the student."""
    found = top_logits.load(teacher)
    alike = agreement(found, found, np.arange(len(found.values)))
    scores = {**artifact.read_json(teacher / "evaluation.json"), **alike}
    parents = {"data": data, "teacher": teacher}
    with artifact.writing(out, stage="distill", parents=parents, params=settings) as temporary:
        for name in artifact.manifest(teacher)["files"]:
            if name not in RESULTS:
                (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(teacher / name, temporary / name)
        top_logits.save(found, temporary)
        artifact.write_json(temporary / "evaluation.json", scores)


def run(settings: Params, data: Path, teacher: Path, out: Path) -> None:
    """Produce the student's directory.

    Args:
        settings: task, student and distillation.
        data: output of `prepare`.
        teacher: output of `teacher`.
        out: directory to write.
    """
    artifact.require(data)
    artifact.require(teacher)
    if isinstance(settings.student, NoStudent):
        pass_through(settings, data, teacher, out)
        return
    from stages.models import checkpoint, training
    from stages.tasks.examples import examples, to_learn
    from stages.tasks.scoring import evaluation, exposure

    model, tokenizer = checkpoint.load_model(teacher), checkpoint.load_tokenizer(teacher)
    labels, task = splits.read_labels(data), settings.task
    encoded = {
        name: encode(task.name, tokenizer, splits.read_split(data, name), labels, task.max_length)
        for name, encode in {"train": to_learn, "validation": examples, "test": examples}.items()
    }
    student, history = distil(model, tokenizer, settings.student, settings.distill, encoded)
    if hasattr(model, "generation_config"):  # what ends a text is no matter of size
        student.generation_config = model.generation_config
    test = encoded["test"]
    found = test.kept(student)
    scores = evaluation(task.name, student, test.case, test.labels, found)
    scores |= agreement(found, top_logits.load(teacher), test.case)
    scores |= tasks.model(task.name).beside_bar(
        student, tokenizer, splits.read_split(data, "test").texts, task.max_length
    )
    scores |= exposure(task.name, student, tokenizer, data)
    parents = {"data": data, "teacher": teacher}
    with artifact.writing(out, stage="distill", parents=parents, params=settings, tools=TOOLS) as temporary:
        checkpoint.save(student, tokenizer, temporary)
        top_logits.save(found, temporary)
        artifact.write_json(temporary / "evaluation.json", scores)
        training.write_history(temporary / "history.csv", history)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.stage(__doc__, argv, run, Params, "data", "teacher", "out")


if __name__ == "__main__":
    sys.exit(main())
