"""Where a student loses against its teacher, by how often train has the rarest piece of a text.

    python -m benchmarks.rarity --data build/data --teacher build/teacher [--split test] STUDENT [STUDENT ...]

A student that has merely fitted its texts loses on words that they do not have. The pieces are the teacher's, whatever
vocabulary a student has. Students are compared on validation, which chooses; the test split is read on request.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact, splits
from stages.measure.statistics import paired_difference, proportion_interval

GROUPS = {"0": (0, 1), "1-2": (1, 3), "3-49": (3, 50), "50 or more": (50, sys.maxsize)}
"""Name → least, and the first that is too many."""
TASK = "classify"


def rarest(train: Sequence[Sequence[int]], texts: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Count how often train has the piece of each text that it has least: int64 [texts]; 0 for a text without pieces.

    Args:
        train: pieces of each of its texts.
        texts: pieces of each.
    """
    pieces, counts = np.unique(np.concatenate([np.asarray(ids, np.int64) for ids in train]), return_counts=True)
    known = dict(zip(pieces.tolist(), counts.tolist(), strict=True))
    return np.array([min((known.get(piece, 0) for piece in ids), default=0) for ids in texts], np.int64)


def right(checkpoint: Path, split: splits.Split, classes: Sequence[str], max_length: int) -> NDArray[np.bool_]:
    """Say of which texts a classifier knows the label: bool [texts]."""
    from stages.models.checkpoint import load_model, load_tokenizer
    from stages.tasks.examples import examples

    read = examples(TASK, load_tokenizer(checkpoint), split, classes, max_length)
    found: NDArray[np.bool_] = read.best(load_model(checkpoint)) == read.labels
    return found


def table(
    teacher: NDArray[np.bool_], students: Mapping[str, NDArray[np.bool_]], seen: NDArray[np.int64]
) -> Iterator[str]:
    """Yield lines of Markdown: accuracy, and points lost against the teacher by rarity, with 95 % intervals.

    Args:
        teacher: which texts it knows.
        students: name → which texts it knows.
        seen: of `rarest`.
    """
    groups = {name: (seen >= least) & (seen < beyond) for name, (least, beyond) in GROUPS.items()}
    groups = {name: rows for name, rows in groups.items() if rows.any()}
    yield f"| | accuracy | {' | '.join(f'{name} ({rows.sum()} texts)' for name, rows in groups.items())} |"
    yield f"|---|{'--:|' * (1 + len(groups))}"
    for name, student in students.items():
        low, high = proportion_interval(int(student.sum()), len(student))
        cells = [f"{100 * student.mean():.2f} % [{100 * low:.2f}, {100 * high:.2f}]"]
        for rows in groups.values():
            lost, (least, most) = paired_difference(teacher[rows], student[rows])
            cells.append(f"{100 * lost:.2f} [{100 * least:.2f}, {100 * most:.2f}]")
        yield f"| {name} | {' | '.join(cells)} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    from stages.models.checkpoint import load_tokenizer

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("students", type=Path, nargs="+")
    arguments = parser.parse_args(argv)
    artifact.require(arguments.data)
    length = artifact.manifest(arguments.data)["params"]["task"]["max_length"]
    split, train = (splits.read_split(arguments.data, name) for name in (arguments.split, "train"))
    classes, tokenizer = splits.read_labels(arguments.data), load_tokenizer(arguments.teacher)
    cut = [tokenizer(one.texts, add_special_tokens=False)["input_ids"] for one in (train, split)]
    teacher = right(arguments.teacher, split, classes, length)
    students = {str(path): right(path, split, classes, length) for path in arguments.students}
    print(f"teacher: {100 * teacher.mean():.2f} % of {arguments.split}; points lost by the count of the rarest piece")
    print("\n".join(table(teacher, students, rarest(*cut))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
