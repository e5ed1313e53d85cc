"""What a data set is once it is read, and how it is made disjoint and carved into five splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

from stages.core.errors import ConfigError, InputError

RAW = ("train", "validation", "test")
SPLITS = ("train", "validation", "test", "calibration", "probe")
REPORTED_CONTRADICTIONS = 20

FEWEST = 64
"""Utterances that gates ask of calibration and probe at least: no size is lowered below it."""
MOST = 4
"""A part takes at most a quarter of what it is taken from, unless that is fewer than `FEWEST`."""


class Example(NamedTuple):
    """One utterance and what is known of it, None where nothing is."""

    text: str
    label: str | None


Splits = dict[str, list[Example]]
"""Split name → examples."""
Stratum = Callable[[Example], str]
"""Names what an example is one of; a part that is taken out of a split holds each in its share."""


class Carved(NamedTuple):
    """How one split was taken out of another.

    Attributes:
        source: the split it was taken out of.
        taken: its utterances.
        wanted: as many as were asked for.
        of: utterances that `source` had.
    """

    source: str
    taken: int
    wanted: int
    of: int

    def __str__(self) -> str:
        """Say it in a line."""
        fewer = "" if self.taken == self.wanted else f", {self.wanted} were asked for"
        return f"{self.taken} of {self.of} {self.source} utterances{fewer}"


@dataclass(frozen=True)
class Source:
    """A data set as it came: train, test and, where there is one, validation; and the files it was read from."""

    splits: Splits
    files: Mapping[str, Path] = field(default_factory=dict)
    """Role → file, for the lineage; empty only where a hub served it."""
    tools: tuple[str, ...] = ()
    """Distributions whose versions shaped what was read."""


def normalise(text: str) -> str:
    """Return what two texts share when they count as the same: casefolded, whitespace collapsed."""
    return " ".join(text.casefold().split())


def check(splits: Splits) -> None:
    """Check that there is something to learn from and to judge by.

    Args:
        splits: train, test and, where there is one, validation.

    Raises:
        InputError: an empty split.
    """
    for split in RAW:
        if not splits.get(split, True):
            raise InputError(f"the {split} split is empty", expected="at least one utterance in each split")


def remove_duplicates(splits: Splits, stratum: Stratum) -> tuple[Splits, dict[str, object]]:
    """Make train, validation and test disjoint by normalised text, at the expense of train first.

    Test stays as it came, so that its figures compare with published ones; validation loses what test has;
    train loses what either has. Within train and validation the first of several equal texts stays.

    Returns:
        The splits, and what was found: counts, and texts that occur with different labels.

    Raises:
        InputError: nothing of a split, or of a stratum of train, is left.
    """
    texts = {split: {normalise(example.text) for example in splits[split]} for split in RAW}
    kept = {
        "train": _first_of_each(splits["train"], texts["validation"] | texts["test"]),
        "validation": _first_of_each(splits["validation"], texts["test"]),
        "test": splits["test"],
    }
    for split in ("train", "validation"):
        if not kept[split]:
            raise InputError(f"no {split} utterance is left: every text occurs in a later split too")
    _check_strata_left(splits["train"], kept["train"], stratum, "duplicates")
    contradictions = _contradictions(splits)
    return kept, {
        "contradicting_labels": len(contradictions),
        "contradicting_examples": dict(list(contradictions.items())[:REPORTED_CONTRADICTIONS]),
        "removed_from_train": len(splits["train"]) - len(kept["train"]),
        "removed_from_validation": len(splits["validation"]) - len(kept["validation"]),
        "shared_by_train_and_test": len(texts["train"] & texts["test"]),
        "shared_by_train_and_validation": len(texts["train"] & texts["validation"]),
        "shared_by_validation_and_test": len(texts["validation"] & texts["test"]),
        "within_test_kept": len(splits["test"]) - len(texts["test"]),
        "within_train": len(splits["train"]) - len(texts["train"]),
        "within_validation": len(splits["validation"]) - len(texts["validation"]),
    }


def hold_out(splits: Splits, split: str, share: float, seed: int, stratum: Stratum) -> Splits:
    """Take a validation or test split out of train where a data set has none.

    Every text of train counts once, and those that another split has are not chosen, so that what is held out stays
    held out when duplicates are removed.

    Args:
        splits: train, and what else there is.
        split: what is taken.
        share: of train's distinct texts.
        seed: of the choice within each stratum.
        stratum: of which the split gets its share.

    Raises:
        InputError: train has nothing that the others do not have, or a stratum of which nothing would be left.
    """
    others = [name for name in splits if name != "train"]
    distinct = _first_of_each(splits["train"], {normalise(one.text) for name in others for one in splits[name]})
    if not distinct:
        raise InputError(f"no train utterance is left for {split}: every text occurs in {' or '.join(others)} too")
    size = max(1, round(share * len(distinct)))
    _, taken = carve(distinct, size, Random(f"{seed}/{split}"), stratum)  # noqa: S311
    texts = {normalise(example.text) for example in taken}
    left = [example for example in splits["train"] if normalise(example.text) not in texts]
    _check_strata_left(splits["train"], left, stratum, split)
    return {**splits, "train": left, split: taken}


def carve_all(
    splits: Splits, stratum: Stratum, *, calibration_size: int, probe_size: int, seed: int
) -> tuple[Splits, dict[str, Carved]]:
    """Take calibration out of train, and probe out of validation, or of train where that would halve validation.

    Of a small data set fewer are taken than asked for: see `MOST` and `FEWEST`.

    Returns:
        The splits, and what was taken out of what.

    Raises:
        ConfigError: a size leaves nothing to take it from.
        InputError: nothing of a stratum would be left in train.
    """
    taken: Splits = dict(splits)
    carved: dict[str, Carved] = {}
    for name, size in (("calibration", calibration_size), ("probe", probe_size)):
        source = _source(name, taken, size)
        examples = taken[source]
        fitting = min(size, max(FEWEST, len(examples) // MOST))
        if fitting >= len(examples):
            raise ConfigError(
                f"data.{name}_size is {size}, but {source} has {len(examples)} utterances",
                expected=f"at most {len(examples) - 1}",
            )
        # A string seed is hashed with SHA-512, not with PYTHONHASHSEED; one per split.
        taken[source], taken[name] = carve(examples, fitting, Random(f"{seed}/{name}"), stratum)  # noqa: S311
        carved[name] = Carved(source, fitting, size, len(examples))
    _check_strata_left(splits["train"], taken["train"], stratum, "calibration")
    return {split: taken[split] for split in SPLITS}, carved


def _source(name: str, splits: Splits, size: int) -> str:
    """Choose what a part is taken out of: validation keeps half of its utterances, since it chooses the checkpoint."""
    if name == "calibration":
        return "train"
    roomy = (source for source in ("validation", "train") if len(splits[source]) >= 2 * min(size, FEWEST))
    return next(roomy, "validation")


def carve(
    examples: Sequence[Example], size: int, random: Random, stratum: Stratum
) -> tuple[list[Example], list[Example]]:
    """Split off `size` examples with every stratum's share as close to its share of the whole as `size` allows.

    Systematic sampling: the i-th of a stratum's n examples, in random order, stands at (i + ½)/n; the first `size`
    places are taken. A stratum's count is then within one of its fair share, and none is emptied before half of
    everything is taken.

    Returns:
        What is left and what was taken, both in the order of `examples`.
    """
    strata: dict[str, list[int]] = defaultdict(list)
    for index, example in enumerate(examples):
        strata[stratum(example)].append(index)
    places = []
    for _, indices in sorted(strata.items()):
        random.shuffle(indices)
        places += [((rank + 0.5) / len(indices), random.random(), index) for rank, index in enumerate(indices)]
    taken = {index for _, _, index in sorted(places)[:size]}
    left = [example for index, example in enumerate(examples) if index not in taken]
    return left, [examples[index] for index in sorted(taken)]


def _first_of_each(examples: Sequence[Example], used: set[str]) -> list[Example]:
    seen, kept = set(used), []
    for example in examples:
        text = normalise(example.text)
        if text not in seen:
            seen.add(text)
            kept.append(example)
    return kept


def _contradictions(splits: Splits) -> dict[str, list[str]]:
    labels: dict[str, set[str]] = defaultdict(set)
    for split in RAW:
        for example in splits[split]:
            labels[normalise(example.text)].add(str(example.label))
    return {text: sorted(found) for text, found in sorted(labels.items()) if len(found) > 1}


def _check_strata_left(before: Sequence[Example], after: Sequence[Example], stratum: Stratum, remover: str) -> None:
    gone = sorted({stratum(example) for example in before} - {stratum(example) for example in after})
    if gone:
        raise InputError(
            f"train keeps no utterance of {quoted(gone)} once {remover} are taken out",
            expected="more distinct utterances of each than validation and test share with train",
        )


def quoted(names: Sequence[str], most: int = 5) -> str:
    """List the first names, and say how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + more
