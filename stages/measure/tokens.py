"""Follow a tokenizer from the teacher to the checkpoint that ships, and to the ids its artifact was measured with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact, splits
from stages.core.names import GENERATION, TEMPLATE
from stages.measure.edges import EDGES
from stages.measure.meaning import Rules, differences, pruned, vocabulary

TOKENIZER, CONFIG = "tokenizer.json", "tokenizer_config.json"
WRITERS = {"_from_model_config", "transformers_version"}
"""Of a generation config: how it came to be there."""
REFERENCES = ("probe", "test", "calibration")
"""Splits whose ids the reference holds."""


def renumbering(teacher: Rules, rules: Rules) -> dict[int, int] | None:
    """Map the teacher's ids of the tokens still there to those they have now; None where all are as they were."""
    now, before = vocabulary(rules), vocabulary(teacher)
    return None if now == before else {index: now[token] for token, index in before.items() if token in now}


def foreign_tokenizer(checkpoint: Path, teacher: Path, reference: Path, data: Path) -> list[str]:
    """Say where a checkpoint's tokenizer is not its teacher's, or not the one that the reference was made with.

    Nothing between the teacher and a bundle changes a tokenizer, but for the pruning of a vocabulary: that leaves out
    tokens and numbers the rest anew, in order, and changes no rule.

    Args:
        checkpoint: output of `compress`.
        teacher: output of `teacher`.
        reference: output of `reference`, for the ids of its splits.
        data: output of `prepare`, for their texts.
    """
    ours, theirs = (artifact.read_json(place / TOKENIZER) for place in (checkpoint, teacher))
    found = [f"{TOKENIZER} does not mean what the teacher's does: {first}" for first in foreign_rules(ours, theirs)]
    configs = [artifact.read_json(place / CONFIG) for place in (checkpoint, teacher)]
    if configs[0] != configs[1]:
        keys = sorted(key for key in {*configs[0], *configs[1]} if configs[0].get(key) != configs[1].get(key))
        found.append(f"{CONFIG} has another '{keys[0]}' than the teacher's")
    found += foreign_writing(checkpoint, teacher) if renumbering(theirs, ours) is None else []
    texts = {name: splits.read_split(data, name).texts for name in REFERENCES}
    arrays = {name: artifact.read_arrays(reference / f"{name}.npz") for name in REFERENCES}
    for name in REFERENCES:
        if wrong := _retokenised(checkpoint / TOKENIZER, texts[name], arrays[name]):
            found.append(f"{TOKENIZER} gives other ids for {wrong} of {len(texts[name])} {name} texts")
    if (ids := renumbering(theirs, ours)) is not None:
        others = (splits.read_split(data, name).texts for name in ("train", "validation"))
        capitals = ([text.upper(), text.title()] for text in texts["probe"])
        asked = list(chain(EDGES.values(), *texts.values(), *others, *capitals))
        if wrong := _cut_otherwise(checkpoint / TOKENIZER, teacher / TOKENIZER, asked, ids):
            found.append(f"{TOKENIZER} cuts {wrong} of {len(asked)} texts otherwise though it has all their tokens")
    return found


def foreign_writing(checkpoint: Path, teacher: Path) -> list[str]:
    """Say where what ends a text, how one is drawn, or how a chat is spelled is not the teacher's."""
    templates = [
        (place / TEMPLATE).read_bytes() if (place / TEMPLATE).is_file() else b"" for place in (checkpoint, teacher)
    ]
    found = [f"{TEMPLATE} is not the teacher's"] if templates[0] != templates[1] else []
    paths = [place / GENERATION for place in (checkpoint, teacher)]
    ours, theirs = (
        {key: value for key, value in artifact.read_json(path).items() if key not in WRITERS} if path.is_file() else {}
        for path in paths
    )
    keys = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
    return found + [f"{GENERATION} has another '{key}' than the teacher's" for key in keys[:1]]


def foreign_rules(ours: Rules, theirs: Rules) -> list[str]:
    """Say which rules are neither the teacher's nor what pruning the teacher's vocabulary makes of them."""
    ids = renumbering(theirs, ours)
    if ids is None or not ids.keys() >= {token["id"] for token in theirs["added_tokens"]}:
        return differences(ours, theirs)
    in_order = [ids[old] for old in sorted(ids)] == list(range(len(ids)))
    return differences(ours, pruned(theirs, ids) if in_order else theirs)


def _retokenised(path: Path, texts: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> int:
    """Count the texts whose ids are not those of the reference."""
    width = arrays["input_ids"].shape[1]
    tokenizer = _open(path)
    # As an app does that reads the file: a limit of its own, where the file has one, is part of the interface.
    if tokenizer.truncation is None or tokenizer.truncation["max_length"] > width:
        tokenizer.enable_truncation(width)
    found = np.full((len(texts), width), -1, np.int32)
    for row, ids in zip(found, _ids(tokenizer, texts), strict=True):
        row[: len(ids)] = ids
    wanted = np.where(arrays["attention_mask"] == 1, arrays["input_ids"], -1)
    return int((found != wanted).any(axis=1).sum())


def _cut_otherwise(path: Path, teacher: Path, texts: Sequence[str], ids: Mapping[int, int]) -> int:
    """Count the texts that are cut into other tokens than the teacher's, which are all there.

    The longest match among fewer tokens is the longest among all if that one is there.
    """
    pairs = zip(_ids(_open(path), texts), _ids(_open(teacher), texts), strict=True)
    return sum(found != [ids[old] for old in wanted] for found, wanted in pairs if ids.keys() >= set(wanted))


def _ids(tokenizer: Any, texts: Sequence[str]) -> Iterable[list[int]]:
    return (encoding.ids for encoding in tokenizer.encode_batch_fast(texts))


def _open(path: Path) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    return tokenizer
