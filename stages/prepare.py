"""Read a data set and split it into five disjoint parts.

Reads: the data set that conf/data names (the embedded one is generated).
Writes: train, validation, test, calibration and probe as JSON Lines, labels.json, summary.json.
Why: no figure of a later stage means anything if a test text was trained, calibrated or tuned on; and a linear
    baseline on the same split says what those figures are worth.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.core import artifact, cli, params
from stages.core.params import Section
from stages.data import sources
from stages.data.baseline import measure_baseline
from stages.data.splits import SPLITS, Example, Splits, carve_all, check, remove_duplicates
from stages.data.synthetic import invent
from stages.schema.data import Data
from stages.schema.task import Task

SPECIAL_TOKENS = 2  # every family opens and closes an utterance with one


class Params(Section):
    """What this stage reads of params.yaml."""

    task: Task
    data: Data


def split(raw: Splits, data: Data) -> tuple[Splits, dict[str, object]]:
    """Turn train, validation and test as they came into five disjoint splits.

    Returns:
        The splits, and what was found about duplicates.

    Raises:
        InputError: the data set cannot be trained or judged on.
        ConfigError: calibration or probe ask for more than there is.
    """
    check(raw)
    distinct, duplicates = remove_duplicates(raw)
    carved = carve_all(distinct, calibration_size=data.calibration_size, probe_size=data.probe_size, seed=data.seed)
    if data.probe == "synthetic":
        real = (example.text for examples in raw.values() for example in examples)
        carved["probe"] = invent(carved["train"], real, data.probe_size, data.seed)
    return carved, duplicates


def summarise(splits: Splits, duplicates: Mapping[str, object], task: Task, seed: int) -> dict[str, Any]:
    """Describe the splits and measure the baseline.

    Returns:
        `counts` per split, number of `labels`, `duplicates`, `baseline` (accuracy with interval and n), and per
        split how many texts are `certainly_truncated`: more words than `max_length` has room for tokens.
    """
    room = task.max_length - SPECIAL_TOKENS
    return {
        "baseline": measure_baseline(splits["train"], splits["test"], seed),
        "certainly_truncated": {name: sum(len(e.text.split()) > room for e in splits[name]) for name in SPLITS},
        "counts": {name: len(splits[name]) for name in SPLITS},
        "duplicates": dict(duplicates),
        "labels": len({example.label for example in splits["train"]}),
    }


def run(settings: Params, out: Path) -> None:
    """Write the data set; nothing is written when it cannot be used."""
    data = settings.data
    source = sources.load(data)
    splits, duplicates = split(source.splits, data)
    with artifact.writing(
        out, stage="prepare", parents=source.files, params=settings, tools=("scikit-learn", *source.tools)
    ) as directory:
        for name in SPLITS:
            (directory / f"{name}.jsonl").write_text(_jsonl(splits[name]), encoding="utf-8")
        artifact.write_json(directory / "labels.json", sorted({example.label for example in splits["train"]}))
        artifact.write_json(directory / "summary.json", summarise(splits, duplicates, settings.task, data.seed))


def _jsonl(examples: Sequence[Example]) -> str:
    return "".join(json.dumps(example._asdict(), ensure_ascii=False) + "\n" for example in examples)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.execute(
        cli.parser(__doc__, "out"),
        argv,
        lambda arguments: run(params.load(Params, {"task": "task", "data": "data"}, arguments.params), arguments.out),
    )


if __name__ == "__main__":
    sys.exit(main())
