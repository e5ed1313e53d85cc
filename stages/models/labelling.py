"""Check the label map of config.json: which output answers which class."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from stages.core.errors import InputError
from stages.data.labels import flaw
from stages.models.families.base import COUNT, MAPPING, or_null

LABELLING = {
    **dict.fromkeys(("id2label", "label2id"), or_null(MAPPING)),
    **dict.fromkeys(("num_labels", "_num_labels"), or_null(COUNT)),
}
# What transformers calls classes that nobody named.
PLACEHOLDER = re.compile(r"LABEL_\d+")


def check_labelling(path: Path, config: dict[str, Any]) -> None:
    """Check that every output has one name, and that all settings agree on it.

    Args:
        path: config.json, for messages.
        config: what stands in it.

    Raises:
        InputError: ids that do not run from 0, a name that is none, one output, or two settings that contradict.
    """
    names = config.get("id2label")
    if names is None and config.get("label2id"):
        raise InputError(f"'{path}' has label2id and no id2label", expected="both, or id2label alone")
    if names is not None:
        _check_names(path, names)
        _check_inverse(path, names, config.get("label2id") or {})
    counted = {key: config[key] for key in ("num_labels", "_num_labels") if config.get(key) is not None}
    outputs = len(names) if names is not None else next(iter(counted.values()), 2)  # transformers' own default
    for key, value in counted.items():
        if value != outputs:
            raise InputError(f"'{path}' has {key}: {value}", expected=f"{outputs}, as many as id2label names")
    if outputs < 2:
        raise InputError(
            f"'{path}' describes a model with {outputs} output: a score, as regression and rankers of pairs give",
            expected="a classifier of at least two labels",
            next_step="train one on labels: ranges of the score, or yes and no",
        )


def _check_names(path: Path, names: dict[str, Any]) -> None:
    if sorted(names) != sorted(map(str, range(len(names)))):
        strange = sorted(set(names) - set(map(str, range(len(names)))))
        raise InputError(
            f"'{path}' has an id2label with ids {strange[:5]}",
            expected=f"the ids 0 to {len(names) - 1}, one for each row of the classifier",
            next_step="number the labels as the classifier's rows are",
        )
    for index, name in names.items():
        problem = flaw(name) if isinstance(name, str) and name else "is no name"
        if problem:
            raise InputError(f"'{path}' calls label {index} {name!r}, which {problem}", expected="one printable line")


def _check_inverse(path: Path, names: dict[str, str], ids: dict[str, Any]) -> None:
    """Compare both directions; placeholders that someone forgot in one of them say nothing."""
    inverse = {name: int(index) for index, name in names.items()}
    for name, index in ids.items():
        forgotten = name not in inverse and PLACEHOLDER.fullmatch(name)
        # Some tools write the ids as text.
        if not forgotten and (name not in inverse or str(index) != str(inverse[name])):
            raise InputError(
                f"'{path}' has label2id {name!r}: {index!r} and id2label {_named(names, index)}",
                expected="one the inverse of the other",
                next_step="remove label2id if id2label is right",
            )


def _named(names: dict[str, str], index: Any) -> str:
    return f"{index}: {names[str(index)]!r}" if str(index) in names else f"without {index!r}"
