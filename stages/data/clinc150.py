"""CLINC150 (Larson et al., EMNLP 2019) as its authors publish it: one JSON file, [text, intent] pairs per split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stages.core.errors import InputError
from stages.data import rows
from stages.data.records import text_of, unique
from stages.data.splits import Example, Source
from stages.schema.data import Clinc150

FILE = "data_full.json"
KEYS = {"train": "train", "validation": "val", "test": "test"}


def load(data: Clinc150) -> Source:
    """Read the in-scope splits; the out-of-scope ones (`oos_*`) are another task and are not read.

    Raises:
        InputError: no such file, not JSON, a split is missing, or an entry is no [text, intent] pair.
    """
    path = Path(data.path)
    path = path / FILE if path.is_dir() else path
    try:
        tree = json.loads(text_of(path), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise InputError(f"'{path}' is not JSON: {error}", expected=f"CLINC150's {FILE}") from error
    if not isinstance(tree, dict) or not all(isinstance(tree.get(key), list) for key in KEYS.values()):
        raise InputError(f"'{path}' is not CLINC150", expected=f"an object with lists {', '.join(KEYS.values())}")
    return Source(
        splits={
            split: [_example(entry, f"'{path}' {key}[{i}]") for i, entry in enumerate(tree[key])]
            for split, key in KEYS.items()
        },
        files={FILE: path},
    )


def _example(entry: Any, where: str) -> Example:
    if not isinstance(entry, list) or len(entry) != 2:
        raise InputError(f"{where} is {str(entry)[:40]!r}", expected="a [text, intent] pair")
    return rows.example(where, *entry)
