"""Texts to learn from with a teacher's answers to them: which may be learnt from, and how they are kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.models.encode import Encoded, logits
from stages.models.examples import Examples, Pick

POOL, SUMMARY = "pool.npz", "summary.json"
ALTERED = {"altered"}
"""Kinds of copies that may say again what another says: each stands for its text, and has its label."""


class Sifted(NamedTuple):
    """Which texts of a pool are learnt from.

    Attributes:
        kept: bool [texts].
        counts: kind → how many were `made`, are a text of which split, are `repeated`, and are `kept`.
    """

    kept: NDArray[np.bool_]
    counts: dict[str, dict[str, int]]


def same(encoded: Encoded) -> list[bytes]:
    """Name each text by its ids, which are all that a model sees of it."""
    return [row[:length].tobytes() for row, length in zip(encoded.input_ids, encoded.lengths, strict=True)]


def sift(pool: Encoded, kinds: Mapping[str, int], held_out: Mapping[str, Encoded]) -> Sifted:
    """Choose the texts that are none of the held-out ones and none that came before.

    Args:
        pool: the train split, then what was made beside it.
        kinds: kind → how many texts of it, in their order; the first is the train split, which stays as it is.
        held_out: split → its texts.

    Returns:
        Which, and why not the others.
    """
    names, known = same(pool), {name: set(same(encoded)) for name, encoded in held_out.items()}
    kept, seen, start = np.ones(len(names), bool), set[bytes](), 0
    counts: dict[str, dict[str, int]] = {}
    for place, (kind, made) in enumerate(kinds.items()):
        found = dict.fromkeys([*known, "repeated"], 0)
        for row in range(start, start + made):
            one = names[row]
            why = next((split for split, texts in known.items() if one in texts), None)
            why = why or ("repeated" if kind not in ALTERED and one in seen else None)
            seen.add(one)
            if place and why:
                kept[row] = False
                found[why] += 1
        counts[kind] = {"made": made, **found, "kept": int(kept[start : start + made].sum())}
        start += made
    return Sifted(kept, counts)


def ask(teacher: Any, encoded: Encoded, arithmetic: str) -> NDArray[np.floating[Any]]:
    """Return a teacher's logits, [texts, …, classes]: in fp16 where it computes in bf16, else in fp32."""
    if arithmetic == "fp32":
        return logits(teacher, encoded)
    with torch.autocast("cpu", torch.bfloat16):
        return logits(teacher, encoded).astype(np.float16)


def save(texts: Examples, answers: NDArray[np.floating[Any]], directory: Path) -> None:
    """Write texts and answers into an existing directory."""
    encoded = texts.encoded
    arrays: dict[str, NDArray[Any]] = {
        "input_ids": encoded.input_ids,
        "lengths": encoded.lengths.astype(np.int32),
        "logits": answers,
        "wanted": texts.wanted,
    }
    artifact.write_arrays(directory / POOL, arrays)


def load(directory: Path, items: Pick, held_out: Mapping[str, Encoded]) -> tuple[Examples, NDArray[np.floating[Any]]]:
    """Read texts and answers, and hold the texts to the splits that nothing may be learnt from.

    Args:
        directory: output of `transfer`.
        items: picks the items of the task.
        held_out: split → its texts, encoded as the teacher reads them.

    Raises:
        ArtifactError: a text that was made is one of a split's; of the train split alone `prepare` has taken care.
    """
    arrays = artifact.read_arrays(directory / POOL)
    lengths = arrays["lengths"][:, None]
    mask = (np.arange(arrays["input_ids"].shape[1]) < lengths).astype(np.int32)
    encoded = Encoded(arrays["input_ids"], mask, 0)
    made = same(encoded)[artifact.read_json(directory / SUMMARY)["kinds"]["train"]["made"] :]
    for split, texts in held_out.items():
        if leaked := set(made) & set(same(texts)):
            raise ArtifactError(
                f"'{directory}' holds {len(leaked)} text(s) of the {split} split", next_step="run `dvc repro transfer`"
            )
    return Examples(encoded, arrays["wanted"], items), arrays["logits"]
