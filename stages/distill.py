"""Distil the teacher into a smaller student of its family, or pass the teacher through.

Reads: the data's splits; the teacher; what it answered to the texts of `transfer`.
Writes: a Hugging Face directory, `test_logits.npy`, `evaluation.json`, `history.csv` where trained, `manifest.json`.
Why: a student that fits a phone learns more from what the teacher thinks of a text than from its label alone.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact, cli, splits
from stages.core.errors import Unsupported
from stages.core.params import Section
from stages.measure import top_logits
from stages.measure.statistics import paired_difference, rate_interval, share_left
from stages.measure.top_logits import Logits, best
from stages.schema.model import Distill, NoStudent, Shape, Student
from stages.schema.task import Task
from stages.schema.transfer import AnyTransfer, Transfer
from stages.tasks import registry as tasks
from stages.tasks.facts import facts

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
    transfer: AnyTransfer
    distill: Distill


def distil(
    teacher: Any,
    tokenizer: Any,
    shape: Shape,
    settings: Distill,
    train: Examples,
    validation: Examples,
    answers: NDArray[np.floating[Any]] | None,
) -> tuple[Any, list[Row]]:
    """Train a student on texts that the teacher answers.

    Args:
        teacher: a Hugging Face model with a head.
        tokenizer: of the teacher, hence of the student.
        shape: of the student.
        settings: weights of the loss, training.
        train: n texts.
        validation: texts for the learning curve.
        answers: the teacher's logits of `train`, None to ask it.

    Returns:
        The student in eval mode and its learning curve.
    """
    from stages.models import student
    from stages.models.objective import Guidance, remembered
    from stages.models.training import fit, reproducible
    from stages.models.tuning import Tuning

    seed = settings.training.seed
    if answers is None:
        with reproducible(seed):
            answers = remembered(teacher, train.encoded)
    guidance = Guidance(
        logits=answers,
        temperature=settings.temperature,
        kl_weight=settings.kl_weight,
        ce_weight=settings.ce_weight,
        hidden_weight=settings.hidden_weight,
        teacher=teacher,
    )
    model = student.build(teacher, shape, seed)
    tuning = Tuning(muon=settings.muon_learning_rate, bf16=settings.arithmetic == "bf16")
    history = fit(
        model, tokenizer, train, validation, settings.training, guidance=guidance, tuning=tuning, title="distil"
    )
    return model, history


def cut_vocabulary(teacher: Any, tokenizer: Any, train: Examples, most: int) -> tuple[Any, Examples]:
    """Choose the student's pieces by what it will learn from, before it learns.

    Args:
        teacher: it loses the rows of all others, in place: its answers to `train` are known.
        tokenizer: of the teacher; left as it is.
        train: texts as whole items, those with a label first in importance.
        most: pieces to keep.

    Returns:
        A tokenizer of these pieces, and the texts as it cuts them.

    Raises:
        Unsupported: a class for each token, which other tokens would not have.
    """
    from stages.models import pieces
    from stages.models.examples import Examples

    if train.wanted.ndim != 1:
        raise Unsupported("student.pieces where each token has a class of its own", expected="student.pieces: null")
    size = teacher.get_input_embeddings().num_embeddings
    known = train.take(np.flatnonzero(train.wanted != splits.UNKNOWN)).encoded
    kept = pieces.choose(tokenizer, known, train.encoded, size, most)
    rewritten = pieces.rewrite_tokenizer(tokenizer, kept)
    pieces.keep_rows(teacher, kept)
    encoded = pieces.recut(tokenizer, rewritten, train.encoded, kept, size)
    return rewritten, Examples(encoded, train.wanted, train.items)


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


def left_on_validation(metric: str, student: NDArray[np.bool_], teacher: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the share of the teacher's accuracy that is left on validation, by which students are chosen.

    Args:
        metric: what it is called.
        student: [labelled texts] whether it is right.
        teacher: the same of the teacher; where it is right of none, there is no share.
    """
    if not teacher.any():
        return {}
    _, ends = paired_difference(teacher, student)
    share, interval = share_left(float(student.mean()), float(teacher.mean()), *ends)
    return {metric: share, f"{metric}_interval": interval, f"{metric}_n": len(teacher)}


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


def run(settings: Params, data: Path, teacher: Path, transfer: Path, out: Path) -> None:
    """Produce the student's directory.

    Args:
        settings: task, student and distillation.
        data: output of `prepare`.
        teacher: output of `teacher`.
        transfer: output of `transfer`; not read where there is no student, or only the train split.
        out: directory to write.
    """
    artifact.require(data)
    artifact.require(teacher)
    if isinstance(settings.student, NoStudent):
        pass_through(settings, data, teacher, out)
        return
    from stages.models import answered, checkpoint, training
    from stages.tasks.examples import examples, held_out, to_learn
    from stages.tasks.scoring import evaluation, exposure

    parents = {"data": data, "teacher": teacher}
    model, tokenizer = checkpoint.load_model(teacher), checkpoint.load_tokenizer(teacher)
    labels, task = splits.read_labels(data), settings.task
    answers: NDArray[np.floating[Any]] | None = None
    chosen_by, known = facts(task.name).PRIMARY.on_validation, None
    if chosen_by:  # before the teacher loses rows
        told = examples(task.name, tokenizer, splits.read_split(data, "validation"), labels, task.max_length)
        known = told.right(model)
    if isinstance(settings.transfer, Transfer):
        parents["transfer"] = artifact.require(transfer)
        train, answers = answered.load(
            transfer, tasks.model(task.name).items, held_out(tokenizer, data, task.max_length)
        )
    else:
        train = to_learn(task.name, tokenizer, splits.read_split(data, "train"), labels, task.max_length)
    if settings.student.pieces is not None:
        tokenizer, train = cut_vocabulary(model, tokenizer, train, settings.student.pieces)
    validation, test = (
        examples(task.name, tokenizer, splits.read_split(data, name), labels, task.max_length)
        for name in ("validation", "test")
    )
    student, history = distil(model, tokenizer, settings.student, settings.distill, train, validation, answers)
    if hasattr(model, "generation_config"):  # what ends a text is no matter of size
        student.generation_config = model.generation_config
    found = test.kept(student)
    scores = evaluation(task.name, student, test.case, test.labels, found)
    scores |= agreement(found, top_logits.load(teacher), test.case)
    scores |= tasks.model(task.name).beside_bar(
        student, tokenizer, splits.read_split(data, "test").texts, task.max_length
    )
    if known is not None:
        scores |= left_on_validation(chosen_by, validation.right(student), known)
    scores |= exposure(task.name, student, tokenizer, data)
    with artifact.writing(out, stage="distill", parents=parents, params=settings, tools=TOOLS) as temporary:
        checkpoint.save(student, tokenizer, temporary)
        top_logits.save(found, temporary)
        artifact.write_json(temporary / "evaluation.json", scores)
        training.write_history(temporary / "history.csv", history)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.stage(__doc__, argv, run, Params, "data", "teacher", "transfer", "out")


if __name__ == "__main__":
    sys.exit(main())
