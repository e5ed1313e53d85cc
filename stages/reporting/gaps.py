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
from stages.core.splits import UNKNOWN
from stages.measure import items, metrics
from stages.measure.items import NO_ANSWER
from stages.measure.statistics import Interval, paired_difference
from stages.schema.layout import CHECKPOINTS, place
from stages.schema.variant import Variant

Kind = Literal["distillation", "compression", "conversion"]
Answers = NDArray[np.int32]
SPLITS = ("probe", "test")


@dataclass(frozen=True)
class Gap:
    """Accuracy lost in one step, paired over the labelled items of the test split.

    Attributes:
        kind: which of the three gaps.
        name: what the step made: `student`, a compression or a variant.
        n: items compared.
        before: accuracy before the step, fraction.
        after: accuracy after it, None where there is none.
        lost: before minus after with its 95 % interval, None where there is none.
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
    """The test split.

    Attributes:
        case: [items] the text that each item belongs to.
        wanted: [items] right answers, -1 unknown; such items are left out.
    """

    case: NDArray[np.int32]
    wanted: NDArray[np.int64]


def measure_gap(kind: Kind, name: str, asked: Asked, before: Answers, after: Answers | None) -> Gap:
    """Compare two models on the same items.

    Args:
        kind: which gap.
        name: what the step made.
        asked: the test split.
        before: [items] classes before the step.
        after: [items] classes after it, `NO_ANSWER` where a logit is not finite; None where the artifact was not run.

    Raises:
        ArtifactError: the two were not computed on the same items.
    """
    known = asked.wanted != UNKNOWN
    right = (before == asked.wanted)[known]
    n, accuracy = int(known.sum()), float(right.mean())
    if after is None:
        return Gap(kind, name, n, accuracy, absent="not measured")
    if after.shape != before.shape:
        raise ArtifactError(
            f"the {kind} gap of '{name}' compares {len(before)} answers with {len(after)}",
            expected="the same utterances",
            next_step="run `dvc repro`",
        )
    bad = int((after == NO_ANSWER).sum())
    if bad:
        return Gap(kind, name, n, accuracy, absent=f"{bad} of {len(after)} answers are NaN or infinite")
    answers = (after == asked.wanted)[known]
    return Gap(kind, name, n, accuracy, float(answers.mean()), paired_difference(right, answers, asked.case[known]))


def read_gaps(variants: Mapping[str, Variant], build: Path, case: NDArray[np.int32]) -> list[Gap]:
    """Measure distillation, then every compression, then every conversion of the chosen variants.

    Args:
        variants: the chosen variants.
        build: directory of all stage outputs.
        case: [items] the text that each item of the test split belongs to.

    Raises:
        ArtifactError: answers are missing, or belong to different test splits.
    """
    tests = {name: _test(place(build, "reference", compression=name)) for name in _compressions(variants)}
    labels = next(iter(tests.values()))["labels"]
    for name, test in tests.items():
        if not np.array_equal(test["labels"], labels):
            raise ArtifactError(f"reference '{name}' has another test split", next_step="run `dvc repro`")
    asked = Asked(case, labels)
    teacher, student = (
        _answers(np.load(_existing(place(build, role), "test_logits.npy")), labels) for role in CHECKPOINTS
    )
    references = {name: _answers(test["logits"], labels) for name, test in tests.items()}
    gaps = [measure_gap("distillation", "student", asked, teacher, student)]
    gaps += [measure_gap("compression", name, asked, student, answers) for name, answers in references.items()]
    for key, variant in variants.items():
        record = items.read(place(build, "parity", variant=key)).get("test")
        given = None if record is None else record.answer
        gaps.append(measure_gap("conversion", key, asked, references[variant.compression], given))
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
        return Spread(nothing, nothing, f"{bad} of {len(finite)} utterances give NaN or infinity")
    return Spread(
        np.concatenate([record.max_abs_error for record in found]),
        np.concatenate([record.kl_divergence for record in found]),
    )


def _compressions(variants: Mapping[str, Variant]) -> list[str]:
    return list(dict.fromkeys(variant.compression for variant in variants.values()))


def _answers(logits: NDArray[np.float32], wanted: NDArray[np.int64]) -> Answers:
    return metrics.answers(logits, wanted).answer


def _test(reference: Path) -> dict[str, NDArray[Any]]:
    return artifact.read_arrays(_existing(reference, "test.npz"))


def _existing(directory: Path, name: str) -> Path:
    path = directory / name
    if not path.is_file():
        raise ArtifactError(f"'{directory}' has no {name}", next_step="run `dvc repro`")
    return path
