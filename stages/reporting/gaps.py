"""The three gaps, kept apart, and how an artifact's errors are distributed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError
from stages.core.splits import UNKNOWN
from stages.measure import metrics
from stages.measure.statistics import Interval, paired_difference
from stages.schema.layout import CHECKPOINTS, place
from stages.schema.variant import Variant

Kind = Literal["distillation", "compression", "conversion"]
Logits = NDArray[np.float32]
SPLITS = ("probe", "test")


@dataclass(frozen=True)
class Gap:
    """Accuracy lost in one step, paired over the labelled test utterances.

    Attributes:
        kind: which of the three gaps.
        name: what the step made: `student`, a compression or a variant.
        n: utterances compared.
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
    """Per-utterance disagreement with the reference, over the probe and the test split.

    Attributes:
        max_abs_error: [n] largest logit difference of each utterance, empty where there is none.
        kl_divergence: [n] KL(reference ‖ artifact) of each utterance in nats, likewise.
        absent: why there is none, or empty.
    """

    max_abs_error: NDArray[np.float64]
    kl_divergence: NDArray[np.float64]
    absent: str = ""


def measure_gap(kind: Kind, name: str, labels: NDArray[np.int64], before: Logits, after: Logits | None) -> Gap:
    """Compare two models on the same utterances.

    Args:
        kind: which gap.
        name: what the step made.
        labels: [n] right answers, -1 unknown; unlabelled utterances are left out.
        before: [n, labels] logits before the step.
        after: [n, labels] logits after it, None where the artifact was not run.

    Raises:
        ArtifactError: the two were not computed on the same utterances.
    """
    known = labels != UNKNOWN
    right = (before.argmax(axis=-1) == labels)[known]
    n, accuracy = int(known.sum()), float(right.mean())
    if after is None:
        return Gap(kind, name, n, accuracy, absent="not measured")
    if after.shape != before.shape:
        raise ArtifactError(
            f"the {kind} gap of '{name}' compares logits {list(before.shape)} with {list(after.shape)}",
            expected="the same utterances and labels",
            next_step="run `dvc repro`",
        )
    bad = metrics.non_finite_count(after)
    if bad:
        return Gap(kind, name, n, accuracy, absent=f"{bad} logits are NaN or infinite")
    answers = (after.argmax(axis=-1) == labels)[known]
    return Gap(kind, name, n, accuracy, float(answers.mean()), paired_difference(right, answers))


def read_gaps(variants: Mapping[str, Variant], build: Path) -> list[Gap]:
    """Measure distillation, then every compression, then every conversion of the chosen variants.

    Raises:
        ArtifactError: logits are missing, or belong to different test splits.
    """
    tests = {name: _arrays(place(build, "reference", compression=name), "test.npz") for name in _compressions(variants)}
    labels = next(iter(tests.values()))["labels"]
    for name, test in tests.items():
        if not np.array_equal(test["labels"], labels):
            raise ArtifactError(f"reference '{name}' has another test split", next_step="run `dvc repro`")
    teacher, student = (np.load(_existing(place(build, role), "test_logits.npy")) for role in CHECKPOINTS)
    gaps = [measure_gap("distillation", "student", labels, teacher, student)]
    gaps += [measure_gap("compression", name, labels, student, test["logits"]) for name, test in tests.items()]
    for key, variant in variants.items():
        outputs = _arrays(place(build, "parity", variant=key), "outputs.npz").get("test")
        gaps.append(measure_gap("conversion", key, labels, tests[variant.compression]["logits"], outputs))
    return gaps


def read_spread(reference: Path, parity: Path) -> Spread:
    """Compute the disagreement of every utterance; NaN or infinity anywhere leaves no distribution."""
    outputs = _arrays(parity, "outputs.npz")
    nothing = np.empty(0)
    if not set(SPLITS) <= set(outputs):
        return Spread(nothing, nothing, "not measured")
    actual = np.concatenate([outputs[name] for name in SPLITS])
    bad = int((~np.isfinite(actual)).any(axis=-1).sum())
    if bad:
        return Spread(nothing, nothing, f"{bad} of {len(actual)} utterances give NaN or infinity")
    expected = np.concatenate([_arrays(reference, f"{name}.npz")["logits"] for name in SPLITS])
    if expected.shape != actual.shape:
        raise ArtifactError(f"'{parity}' has {len(actual)} outputs for {len(expected)} utterances of '{reference}'")
    error = np.abs(expected.astype(np.float64) - actual).max(axis=-1)
    return Spread(error, metrics.kl_divergence(reference=expected, outputs=actual))


def _compressions(variants: Mapping[str, Variant]) -> list[str]:
    return list(dict.fromkeys(variant.compression for variant in variants.values()))


def _existing(directory: Path, name: str) -> Path:
    path = directory / name
    if not path.is_file():
        raise ArtifactError(f"'{directory}' has no {name}", next_step="run `dvc repro`")
    return path


def _arrays(directory: Path, name: str) -> dict[str, NDArray[Any]]:
    with np.load(_existing(directory, name)) as stored:
        return {key: stored[key] for key in stored.files}
