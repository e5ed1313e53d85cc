"""The three gaps, kept apart, and how an artifact's errors are distributed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.measure import items, top_logits
from stages.measure.items import NO_ANSWER, Answers
from stages.measure.metrics import kept_answers
from stages.measure.statistics import Interval
from stages.schema.layout import CHECKPOINTS, place
from stages.schema.variant import Variant
from stages.tasks import registry as tasks
from stages.tasks.base import Primary
from stages.tasks.facts import facts
from stages.tasks.registry import Quality

Kind = Literal["distillation", "compression", "conversion"]
SPLITS = ("probe", "test")


@dataclass(frozen=True)
class Gap:
    """What was lost of the task's metric in one step, paired over the labelled items of the test split.

    Attributes:
        kind: which of the three gaps.
        name: what the step made: `student`, a compression or a variant.
        n: items compared.
        before: the metric before the step.
        after: the metric after it, None where there is none.
        lost: how much worse that is, with its 95 % interval, None where there is none.
        absent: why there is none, or empty.
    """

    kind: Kind
    name: str
    n: int
    before: float
    after: float | None = None
    lost: tuple[float, Interval] | None = None
    absent: str = ""


@dataclass(frozen=True)
class Spread:
    """Disagreement of each item with the reference, over the probe and the test split.

    Attributes:
        max_abs_error: [n] largest logit difference of each item, empty where there is none.
        kl_divergence: [n] KL(reference ‖ artifact) of each item in nats, likewise.
        absent: why there is none, or empty.
    """

    max_abs_error: NDArray[np.float64]
    kl_divergence: NDArray[np.float64]
    absent: str = ""


@dataclass(frozen=True)
class Asked:
    """The test split, and how good answers to it are.

    Attributes:
        case: [items] the text that each item belongs to.
        wanted: [items] right answers, -1 unknown; such items are left out.
        quality: of the task.
        primary: what models of the task are chosen by.
    """

    case: NDArray[np.int32]
    wanted: NDArray[np.int64]
    quality: Quality
    primary: Primary


def measure_gap(kind: Kind, name: str, asked: Asked, before: Answers, after: Answers | None) -> Gap:
    """Compare two models on the same items.

    Args:
        kind: which gap.
        name: what the step made.
        asked: the test split.
        before: answers before the step.
        after: answers after it, None where the artifact was not run.

    Raises:
        ArtifactError: the two were not computed on the same items.
    """
    metric, lost = asked.primary.metric, asked.primary.to_reference
    alone = asked.quality.measure(asked.case, asked.wanted, before, before, before)
    n, score = alone["counts"][metric], alone["values"][metric]
    if after is None:
        return Gap(kind, name, n, score, absent="not measured")
    given = len(after.answer)
    if given != len(before.answer):
        raise ArtifactError(
            f"the {kind} gap of '{name}' compares {len(before.answer)} answers with {given}",
            expected="the same utterances",
            next_step="run `dvc repro`",
        )
    bad = int((after.answer == NO_ANSWER).sum())
    if bad:
        return Gap(kind, name, n, score, absent=f"{bad} of {given} answers are NaN or infinite")
    found = asked.quality.measure(asked.case, asked.wanted, after, before, before)
    return Gap(kind, name, n, score, found["values"][metric], (found["values"][lost], found["intervals"][lost]))


def read_gaps(variants: Mapping[str, Variant], build: Path, task: str, case: NDArray[np.int32]) -> list[Gap]:
    """Measure distillation, then every compression, then every conversion of the chosen variants.

    Args:
        variants: the chosen variants.
        build: directory of all stage outputs.
        task: what the models are for.
        case: [items] the text that each item of the test split belongs to.

    Raises:
        ArtifactError: answers are missing, or belong to different test splits.
    """
    tests = {name: _test(place(build, "reference", compression=name)) for name in _compressions(variants)}
    labels = next(iter(tests.values()))["labels"]
    for name, test in tests.items():
        if not np.array_equal(test["labels"], labels):
            raise ArtifactError(f"reference '{name}' has another test split", next_step="run `dvc repro`")
    asked = Asked(case, labels, tasks.quality(task), facts(task).PRIMARY)
    teacher, student = (kept_answers(top_logits.load(place(build, role)), labels) for role in CHECKPOINTS)
    references = {name: kept_answers(top_logits.of(test), labels) for name, test in tests.items()}
    gaps = [measure_gap("distillation", "student", asked, teacher, student)]
    gaps += [measure_gap("compression", name, asked, student, given) for name, given in references.items()]
    for key, variant in variants.items():
        record = items.read(place(build, "parity", variant=key)).get("test")
        converted = None if record is None else record.answers
        gaps.append(measure_gap("conversion", key, asked, references[variant.compression], converted))
    return gaps


def read_spread(parity: Path) -> Spread:
    """Read the disagreement of every item; NaN or infinity anywhere leaves no distribution."""
    records, nothing = items.read(parity), np.empty(0)
    if not set(SPLITS) <= set(records):
        return Spread(nothing, nothing, "not measured")
    found = [records[name] for name in SPLITS]
    finite = np.concatenate([record.finite for record in found])
    if not finite.all():
        bad = int((~finite).sum())
        return Spread(nothing, nothing, f"{bad} of {len(finite)} answers are NaN or infinite")
    return Spread(
        np.concatenate([record.max_abs_error for record in found]),
        np.concatenate([record.kl_divergence for record in found]),
    )


def _compressions(variants: Mapping[str, Variant]) -> list[str]:
    return list(dict.fromkeys(variant.compression for variant in variants.values()))


def _test(reference: Path) -> dict[str, NDArray[Any]]:
    return artifact.read_arrays(_existing(reference, "test.npz"))


def _existing(directory: Path, name: str) -> Path:
    path = directory / name
    if not path.is_file():
        raise ArtifactError(f"'{directory}' has no {name}", next_step="run `dvc repro`")
    return path
