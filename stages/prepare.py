"""Read a data set and split it into five disjoint parts.

Reads: the data set that conf/data names (the embedded one is generated).
Writes: train, validation, test, calibration and probe as JSON Lines, labels.json, summary.json; `canaries.json`.
Why: no figure of a later stage means anything if a test text was trained, calibrated or tuned on; and a linear
    baseline on the same split says what those figures are worth.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stages.core import artifact, cli
from stages.core.errors import ConfigError
from stages.core.params import Section
from stages.core.splits import CANARIES, Canary
from stages.data import canaries, sources
from stages.data.splits import SPLITS, Carved, Example, Splits, carve_all, check, hold_out, remove_duplicates
from stages.data.synthetic import invent
from stages.schema.data import Data, Rows, Text
from stages.schema.task import Task
from stages.tasks import registry as tasks


class Params(Section):
    """What this stage reads of params.yaml."""

    task: Task
    data: Data


class Prepared(NamedTuple):
    """Five disjoint splits, and how they came about.

    Attributes:
        splits: split name → examples.
        duplicates: what was found about duplicates.
        carved: what was taken out of what.
        canaries: secrets that were put into train.
    """

    splits: Splits
    duplicates: dict[str, object]
    carved: dict[str, Carved]
    canaries: Sequence[Canary] = ()


def split(raw: Splits, data: Data, task: tasks.Data) -> Prepared:
    """Turn train, validation and test (where there are) as they came into five disjoint splits of a task.

    Raises:
        InputError: the data set cannot be trained or judged on.
        ConfigError: calibration or probe ask for more than there is.
    """
    check(raw)
    raw = task.read(raw)
    held_out: dict[str, Carved] = {}
    if isinstance(data, Rows):
        for name, share in (("test", data.test_share), ("validation", data.validation_share)):
            if name not in raw:
                had = len(raw["train"])
                raw = hold_out(raw, name, share, data.seed, task.stratum)
                held_out[name] = Carved("train", len(raw[name]), len(raw[name]), had)
    distinct, duplicates = remove_duplicates(raw, task.stratum)
    splits, carved = carve_all(
        distinct, task.stratum, calibration_size=data.calibration_size, probe_size=data.probe_size, seed=data.seed
    )
    if data.probe == "synthetic":
        real = (example.text for examples in raw.values() for example in examples)
        splits["probe"] = invent(splits["train"], real, data.probe_size, data.seed)
    return Prepared(splits, duplicates, held_out | carved)


def plant(prepared: Prepared, data: Data, task: tasks.Data) -> Prepared:
    """Put canaries into train where they are asked for.

    Raises:
        ConfigError: the task measures nothing that could be told of them.
    """
    repeats = data.canaries if isinstance(data, Rows | Text) else []
    if not repeats:
        return prepared
    if task.classes(prepared.splits["train"]):
        raise ConfigError(
            f"data.canaries is {repeats}, and a model that tells classes writes nothing of its training text",
            next_step="set data.canaries=[], or task=generate",
        )
    train, planted = canaries.plant(prepared.splits["train"], repeats, data.seed)
    return prepared._replace(splits={**prepared.splits, "train": train}, canaries=planted)


def summarise(prepared: Prepared, task: tasks.Data, seed: int) -> dict[str, Any]:
    """Describe the splits and measure the baseline.

    Returns:
        `counts` per split, number of `labels`, `duplicates`, `baseline` (the task's honesty bar), and what was `carved`
        out of what.
    """
    splits = prepared.splits
    return {
        "baseline": task.honesty_bar(splits["train"], splits["test"], seed),
        "carved": {name: carved._asdict() for name, carved in prepared.carved.items()},
        "counts": {name: len(splits[name]) for name in SPLITS},
        "duplicates": prepared.duplicates,
        "labels": len(task.classes(splits["train"])),
    }


def run(settings: Params, out: Path) -> None:
    """Write the data set; nothing is written when it cannot be used."""
    data, task = settings.data, tasks.data(settings.task.name)
    source = sources.load(data)
    prepared = split(source.splits, data, task)
    summary = summarise(prepared, task, data.seed)
    prepared = plant(prepared, data, task)
    for name, carved in prepared.carved.items():
        if (
            name in ("validation", "test")
            or carved.taken != carved.wanted
            or (name, carved.source) == ("probe", "train")
        ):
            print(f"{name}: {carved}", file=sys.stderr)
    with artifact.writing(
        out, stage="prepare", parents=source.files, params=settings, tools=("scikit-learn", *source.tools)
    ) as directory:
        for name in SPLITS:
            (directory / f"{name}.jsonl").write_text(_jsonl(prepared.splits[name]), encoding="utf-8")
        artifact.write_json(directory / "labels.json", task.classes(prepared.splits["train"]))
        artifact.write_json(directory / "summary.json", summary)
        if prepared.canaries:
            artifact.write_json(directory / CANARIES, [canary._asdict() for canary in prepared.canaries])


def _jsonl(examples: Sequence[Example]) -> str:
    return "".join(json.dumps(example._asdict(), ensure_ascii=False) + "\n" for example in examples)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.stage(__doc__, argv, run, Params, "out")


if __name__ == "__main__":
    sys.exit(main())
