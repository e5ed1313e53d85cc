"""Record what the compressed checkpoint computes, as inputs and fp32 outputs that need no torch to read.

Reads: the data's splits; a compressed checkpoint.
Writes: `probe.npz`, `test.npz`, `calibration.npz`, `coverage.npz`, `summary.json`, `manifest.json`; of a task that
    writes text `greedy.npz`.
Why: an artifact must agree with the unmodified Hugging Face forward, not with the module its converter saw.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact, cli, splits
from stages.core.params import Section
from stages.measure import top_logits
from stages.measure.metrics import non_finite_count
from stages.measure.top_logits import Logits
from stages.schema.task import Task
from stages.tasks import registry as tasks
from stages.tasks.base import GREEDY
from stages.tasks.scoring import score

if TYPE_CHECKING:
    from stages.models.encode import Encoded
    from stages.models.examples import Pick

SPLITS = ("probe", "test", "calibration")
ROWS = 16
"""Rows of ids in use that a model of a large vocabulary is asked."""


class Params(Section):
    """The length inputs are padded to."""

    task: Task


@dataclass(frozen=True)
class Golden:
    """One split's inputs and reference outputs.

    Attributes:
        input_ids: int32 [n, max_length], right-padded.
        attention_mask: int32 [n, max_length].
        labels: int64 [items], -1 unknown.
        logits: of the items, those of a large vocabulary as `top_logits` keeps them.
    """

    input_ids: NDArray[np.int32]
    attention_mask: NDArray[np.int32]
    labels: NDArray[np.int64]
    logits: Logits


def golden(model: Any, encoded: Encoded, items: Pick, labels: NDArray[np.int64] | None) -> Golden:
    """Run encoded texts through the unmodified Hugging Face forward with its two-dimensional mask.

    Batches are as wide as their longest text (`encode.batches`), so the logits owe as little to padding as a batch
    allows; what padding an artifact sees, and its mask constant, are part of what is checked.
    """
    from stages.models.examples import kept

    logits = kept(model, encoded, items, labels)
    known = np.full(len(logits.values), splits.UNKNOWN) if labels is None else labels
    return Golden(encoded.input_ids, encoded.attention_mask, known, logits)


def summarise(task: str, found: Mapping[str, Golden], case: NDArray[np.int32]) -> dict[str, Any]:
    """Describe the reference.

    Args:
        task: its name.
        found: split name → what was recorded; `test` and `probe` must be among them.
        case: int32 [items of test], the text that each belongs to.

    Returns:
        What `scoring.score` says of the labelled items of test, a non-finite answer being a wrong one;
        `spread`, the standard deviation of the probe logits, which errors are put in relation to (absent when one is
        not finite: a spread of NaN is not a number); `non_finite_count` over all splits; `counts` of items per split.

    Raises:
        InputError: no item of test has a label.
    """
    test, probe = found["test"], found["probe"]
    summary: dict[str, Any] = {
        **score(task, case, test.labels, test.logits),
        "counts": {name: len(one.labels) for name, one in found.items()},
        "non_finite_count": sum(non_finite_count(one.logits.values) for one in found.values()),
    }
    if non_finite_count(probe.logits.values) == 0:
        summary["spread"] = float(probe.logits.values.std())
    return summary


def truncated(encoded: Mapping[str, Encoded]) -> dict[str, dict[str, int]]:
    """Count, per split of the data, its `texts` and those longer than `max_length`, which lost their `ends`."""
    return {name: {"ends": one.truncated, "texts": len(one)} for name, one in encoded.items()}


def arrays(one: Golden) -> dict[str, NDArray[Any]]:
    """Name a split's arrays as the files hold them."""
    return {
        "attention_mask": one.attention_mask,
        "input_ids": one.input_ids,
        "labels": one.labels,
        **top_logits.arrays(one.logits),
    }


def run(settings: Params, data: Path, compressed: Path, out: Path) -> None:
    """Read data and checkpoint, run every split, write inputs and outputs."""
    from stages.models import checkpoint
    from stages.models.coverage import encode_coverage
    from stages.models.families import family_of
    from stages.tasks.examples import examples

    artifact.require(data)
    artifact.require(compressed)
    model, tokenizer = checkpoint.load_model(compressed), checkpoint.load_tokenizer(compressed)
    labels, task, length = splits.read_labels(data), settings.task.name, settings.task.max_length
    read = {
        name: examples(task, tokenizer, splits.read_split(data, name), labels, length)
        for name in ("train", "validation", *SPLITS)
    }
    encoded = {name: one.encoded for name, one in read.items()}
    items = tasks.model(task).items
    found = {name: golden(model, encoded[name], items, read[name].labels) for name in SPLITS}
    spelled_padding = not family_of(model.config).padded_positions
    # Of a large vocabulary an item is dear, and parity looks every id up besides (`conversion.check_vocabulary`).
    most = None if found["test"].logits.classes is None else ROWS
    coverage = encode_coverage(
        tokenizer,
        encoded.values(),
        length,
        continues=tasks.model(task).CONTINUES,
        spelled_padding=spelled_padding,
        most=most,
    )
    found["coverage"] = golden(model, coverage, items, None)
    texts = splits.read_split(data, "test").texts
    written = tasks.model(task).greedy(model, tokenizer, texts, length)
    with artifact.writing(
        out,
        stage="reference",
        parents={"compressed": compressed, "data": data},
        params=settings,
        tools=("numpy", "torch", "transformers"),
    ) as temporary:
        for name, one in found.items():
            artifact.write_arrays(temporary / f"{name}.npz", arrays(one))
        if written:
            artifact.write_arrays(temporary / GREEDY, written)
        artifact.write_json(
            temporary / "summary.json",
            summarise(task, found, read["test"].case) | {"truncated": truncated(encoded), "max_length": length},
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.stage(__doc__, argv, run, Params, "data", "checkpoint", "out")


if __name__ == "__main__":
    sys.exit(main())
