"""Tell whether what ships together belongs together: artifact, checkpoint, labels, tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact, splits

SIGNATURE = "signature.json"
TOKENIZER = "tokenizer.json"


def broken_chain(artifact_dir: Path, converted: Path, checkpoint: Path) -> list[str]:
    """Say where manifests name other parents than those that lie there: an artifact of an earlier checkpoint."""
    links = (
        ("artifact", artifact_dir, "converted", converted),
        ("converted model", converted, "compressed", checkpoint),
    )
    found = [
        f"the {name} was made from another '{role}' than lies in '{parent}'"
        for name, child, role, parent in links
        if artifact.manifest(child)["parents"].get(role) != artifact.digest(parent)
    ]
    if artifact.read_json(artifact_dir / SIGNATURE) != artifact.read_json(converted / SIGNATURE):
        found.append(f"its {SIGNATURE} is not the converted model's")
    return found


def foreign_interface(checkpoint: Path, data: Path, probe: Mapping[str, NDArray[Any]]) -> list[str]:
    """Say where labels or tokenizer, which ship beside the artifact, are not those it was measured with.

    Args:
        checkpoint: output of `compress`: `config.json` and `tokenizer.json`.
        data: output of `prepare`: `labels.json` and `probe.jsonl`.
        probe: the reference's probe inputs, int32 [n, max_length], right-padded.
    """
    found = []
    named = artifact.read_json(checkpoint / "config.json").get("id2label", {})
    expected = splits.read_labels(data)
    actual = [str(named.get(str(index))) for index in range(len(named))]
    if actual != expected:
        first = next((i for i, pair in enumerate(zip(actual, expected, strict=False)) if pair[0] != pair[1]), None)
        place = f"{len(actual)} labels" if first is None else f"'{actual[first]}' for class {first}"
        wanted = f"{len(expected)}" if first is None else f"'{expected[first]}'"
        found.append(f"config.json has {place}, labels.json {wanted}")
    wrong = _retokenised(checkpoint / TOKENIZER, splits.read_split(data, "probe").texts, probe)
    if wrong:
        found.append(f"{TOKENIZER} gives other ids for {wrong} of {len(probe['input_ids'])} probe texts")
    return found


def _retokenised(path: Path, texts: list[str], probe: Mapping[str, NDArray[Any]]) -> int:
    """Count the texts whose ids are not those of the reference."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    width = probe["input_ids"].shape[1]
    # As an app does that reads the file: a limit of its own, where the file has one, is part of the interface.
    if tokenizer.truncation is None or tokenizer.truncation["max_length"] > width:
        tokenizer.enable_truncation(width)
    tokenizer.no_padding()
    wanted = (row[mask == 1] for row, mask in zip(probe["input_ids"], probe["attention_mask"], strict=True))
    return sum(not np.array_equal(tokenizer.encode(text).ids, ids) for text, ids in zip(texts, wanted, strict=True))
