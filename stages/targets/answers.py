"""Ask an artifact or a converted model what is compared with the reference, and keep a row of each answer.

It runs where the artifact runs (`stages.running`): logits over a large vocabulary are too many to be carried away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.measure import invariance, metrics, top_logits
from stages.measure.items import Record
from stages.schema.asked import Asked
from stages.schema.measured import Compared, Forms, Part
from stages.targets.base import Session, read_signature
from stages.tasks import registry as tasks
from stages.tasks.base import GREEDY, INPUTS, MASK, Arrays
from stages.tasks.registry import Exercise

TOGETHER = 0.75
"""Share of the probe split, shortest first, that makes up the larger batch: 96 of 128 texts, cheap at their length."""
PROBE = "probe"
"""The split that is asked in other forms, too."""


class Given(NamedTuple):
    """What came back.

    Attributes:
        compared: what was measured of the answers.
        records: what is kept of those to each split.
        logits: the kept ones, fp32 [items, columns] by split.
        runtime: what executed, as `Session.label`.
        versions: distribution → version of what executed.
    """

    compared: Compared
    records: Mapping[str, Record]
    logits: Mapping[str, NDArray[np.float32]]
    runtime: str
    versions: dict[str, str]


Ask = Callable[[Path, Asked], Given]
"""Asks an artifact or a converted model, wherever that runs."""


def answer(
    session: Session, directory: Path, reference: Path, asked: Asked
) -> tuple[Compared, dict[str, Record], dict[str, NDArray[np.float32]]]:
    """Ask all of it, one split in memory after another.

    Args:
        session: what answers.
        directory: the artifact, or the converted model, that it opened.
        reference: output of `reference`.
        asked: what to ask.

    Returns:
        What was measured, what is kept of the answers to each split, and the kept logits.

    Raises:
        ArtifactError: it fails while it runs, or a file of the reference is unreadable.
    """
    exercise, tokens = tasks.exercise(asked.task), read_signature(directory).tokens
    found: Compared = {"splits": {}}
    records, logits = dict[str, Record](), dict[str, NDArray[np.float32]]()
    for name in asked.splits:
        split = artifact.read_arrays(reference / f"{name}.npz")
        answered: Iterable[NDArray[np.float32]] = evaluate(exercise, session, split, f"{directory.name} {name}")
        kept: list[NDArray[np.float32]] = []
        if name in asked.keep:
            answered = _keeping(split, answered, kept)
        found["splits"][name], records[name] = measure(split, exercise.case(split), answered)
        if kept:
            logits[name] = np.concatenate(kept)
    probe = artifact.read_arrays(reference / f"{PROBE}.npz")
    found["form"] = check_forms(exercise, session, probe, directory, asked)
    if asked.together and session.batches:
        found["together"] = finite({"relative_max_error": batch_error(exercise, session, probe, tokens.filler)})
    if asked.greedy:
        texts = artifact.read_arrays(reference / GREEDY)
        found["greedy"] = exercise.greedy(session, texts, float(probe["logits"].std()))
    return found, records, logits


def evaluate(exercise: Exercise, session: Session, split: Arrays, name: str) -> Iterator[NDArray[np.float32]]:
    """Run the artifact over a split, as an app would.

    Args:
        exercise: how its task asks.
        session: the opened artifact.
        split: the reference's inputs and logits.
        name: for the progress bar.

    Yields:
        Of each text the logits of its items, fp32 [items, classes].

    Raises:
        ArtifactError: the artifact fails while it runs, or answers in another shape than the reference.
    """
    items = np.bincount(exercise.case(split), minlength=len(split[MASK]))
    answered = tqdm(exercise.answer(session, split), desc=name, total=len(items), leave=False)
    for count, logits in zip(items.tolist(), answered, strict=True):
        wanted = (count, top_logits.width(split))
        if logits.shape != wanted:
            raise ArtifactError(f"the artifact answers {logits.shape} to a text", expected=f"{wanted} logits")
        yield logits


def _keeping(
    split: Arrays, answered: Iterable[NDArray[np.float32]], kept: list[NDArray[np.float32]]
) -> Iterator[NDArray[np.float32]]:
    """Put what is kept of each text's logits into a list, on their way."""
    start, classes = 0, split.get("classes")
    for logits in answered:
        rows = slice(start, start := start + len(logits))
        kept.append(top_logits.columns(logits, None if classes is None else classes[rows]))
        yield logits


def measure(split: Arrays, case: NDArray[np.int32], answered: Iterable[NDArray[np.float32]]) -> tuple[Part, Record]:
    """Compare answers with the reference's.

    Args:
        split: the reference's labels and logits.
        case: [items] the text that each belongs to.
        answered: the artifact's logits, text by text.

    Returns:
        `values`, 95 % `intervals`, `counts`, the items behind each, and `texts` where these are fewer; and what is
        kept of the answers.
    """
    compared = metrics.compare(split["logits"], answered, case, split["labels"], split.get("classes"))
    values, intervals = metrics.measure_parity(compared)
    counts = dict.fromkeys(values.keys() - {"n"}, len(case))
    return counted({"values": values, "intervals": intervals, "counts": counts}, case), compared.record


def counted(part: Part, case: NDArray[np.int32]) -> Part:
    """Say how many texts are behind a part's items, where a text has several: a gate asks for independent ones."""
    texts = len(np.unique(case))
    return {**part, "texts": dict.fromkeys(part["counts"], texts)} if texts < len(case) else part


def check_forms(exercise: Exercise, session: Session, probe: Arrays, directory: Path, asked: Asked) -> Forms:
    """Ask the artifact the same texts padded, above other padding and in a batch."""
    signature = read_signature(directory)
    padding = invariance.Padding(signature.sequence_lengths, signature.tokens.filler, asked.vocabulary, asked.reach)
    found = exercise.forms(session, probe, padding)
    return {
        "counts": {"form_relative_error": len(invariance.spread_over_lengths(probe))},
        "forms": finite(found),
        "values": finite({"form_relative_error": max(found.values())}),
    }


def batch_error(exercise: Exercise, session: Session, probe: Arrays, pad_token_id: int) -> float:
    """Ask for many texts at once, more than a batch that a trace or a rewrite may have had in mind.

    Args:
        exercise: how its task asks.
        session: the opened converted model, which takes several utterances.
        probe: the reference's probe inputs, int32 [n, max_length], right-padded, and its logits.
        pad_token_id: the padding.

    Returns:
        As `relative_max_error`; inf where an answer is not finite.
    """
    sizes = probe["attention_mask"].sum(axis=1)
    rows = np.argsort(sizes, kind="stable")[: int(len(sizes) * TOGETHER)]
    length = int(sizes[rows].max())
    mask = probe["attention_mask"][rows, :length].astype(np.int32)
    ids = np.where(mask == 1, probe["input_ids"][rows, :length], np.int32(pad_token_id)).astype(np.int32)
    logits = exercise.ask(session, dict(zip(INPUTS, (ids, mask), strict=True)))
    case = exercise.case(probe)
    items = np.concatenate([np.flatnonzero(case == row) for row in rows])
    # Over the spread of all, as the other errors are: a part of the texts may have less.
    spread = max(float(probe["logits"].std()), float(np.finfo(np.float32).tiny))
    return invariance.change(probe["logits"][items], logits, spread)


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """Leave out what is no number, which JSON cannot hold: a gate that asks for it fails on the missing metric."""
    return {name: value for name, value in values.items() if np.isfinite(value)}
