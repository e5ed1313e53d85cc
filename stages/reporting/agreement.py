"""How often any two models of a build give the same answer: teacher, references and every artifact that ran.

Parity compares an artifact with its own reference alone. Here the platforms meet: two apps that ship the same
student answer alike only as often as their two artifacts do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact
from stages.core.splits import UNKNOWN
from stages.measure import items, metrics, top_logits
from stages.measure.items import NO_ANSWER
from stages.measure.statistics import Interval, rate_interval
from stages.measure.top_logits import Logits
from stages.schema.layout import OPINIONS, place
from stages.schema.variant import Variant

Kind = Literal["teacher", "reference", "variant"]
Answers = NDArray[np.int32]
KERNELS = ("reference", "default")
"""TensorFlow's kernels that may have given a second opinion, as `stages.second_opinion` names them."""


@dataclass(frozen=True)
class Share:
    """Equal answers of two models to the same items."""

    value: float
    interval: Interval
    n: int


@dataclass(frozen=True)
class Model:
    """One row and one column.

    Attributes:
        kind: what it is.
        name: `teacher`, a compression or a variant.
        shares: with every model, in their order.
        opinions: kernels of TensorFlow → with what they answer to the same file, where they were asked.
    """

    kind: Kind
    name: str
    shares: list[Share]
    opinions: dict[str, Share]


def answer(logits: Logits) -> Answers:
    """Return the class of each item, `NO_ANSWER` where a logit is not finite: [items]."""
    return metrics.kept_answers(logits, np.full(len(logits.values), UNKNOWN)).answer


def share(first: Answers, second: Answers, case: NDArray[np.int32]) -> Share:
    """Compare two models on the items both were asked, the first ones; no answer equals nothing.

    Args:
        first: [items]
        second: [items]
        case: [items] the text that each belongs to.
    """
    n = min(len(first), len(second))
    same = (first[:n] == second[:n]) & (first[:n] != NO_ANSWER)
    return Share(float(same.mean()), rate_interval(same, case[:n]), n)


def read_agreement(variants: Mapping[str, Variant], build: Path, case: NDArray[np.int32]) -> list[Model]:
    """Compare everything that answered the test split with everything else.

    Args:
        variants: the chosen variants, in the order of their rows; those that were not run have none.
        build: directory of all stage outputs.
        case: [items] the text that each item of the test split belongs to.
    """
    given: dict[tuple[Kind, str], Answers] = {("teacher", "teacher"): answer(top_logits.load(place(build, "teacher")))}
    for name in dict.fromkeys(variant.compression for variant in variants.values()):
        reference = place(build, "reference", compression=name)
        given["reference", name] = answer(top_logits.of(artifact.read_arrays(reference / "test.npz")))
    for key in variants:
        records = items.read(place(build, "parity", variant=key))
        if "test" in records:
            given["variant", key] = records["test"].answer
    return [
        Model(
            kind,
            name,
            [share(answers, other, case) for other in given.values()],
            _opinions(build, name, answers, case) if kind == "variant" else {},
        )
        for (kind, name), answers in given.items()
    ]


def rows(models: Sequence[Model]) -> list[dict[str, Any]]:
    """One row per pair for `agreement.json`, each pair once."""
    return [
        {
            "first": first.name,
            "first_kind": first.kind,
            "second": second.name,
            "second_kind": second.kind,
            "agreement": found.value,
            "agreement_low": found.interval[0],
            "agreement_high": found.interval[1],
            "n": found.n,
        }
        for index, first in enumerate(models)
        for second, found in zip(models[index + 1 :], first.shares[index + 1 :], strict=True)
    ]


def _opinions(build: Path, key: str, answers: Answers, case: NDArray[np.int32]) -> dict[str, Share]:
    """Read what TensorFlow answered to this very artifact; opinions on other bytes are passed over."""
    directory = build / OPINIONS / key
    if not (directory / artifact.MANIFEST).is_file():
        return {}
    if artifact.manifest(directory)["parents"]["artifact"] != artifact.digest(place(build, "artifact", variant=key)):
        return {}
    outputs = artifact.read_arrays(artifact.require(directory) / "answers.npz")
    return {name: share(answers, outputs[f"{name}_test"], case) for name in KERNELS if f"{name}_test" in outputs}
