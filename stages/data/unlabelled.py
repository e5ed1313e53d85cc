"""Texts that nobody labelled, from a file of a user's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.core.errors import InputError
from stages.data import records, rows


def read(path: Path, column: str) -> list[str]:
    """Read texts that nobody labelled: of JSON Lines (.jsonl), of CSV (.csv, commas), or else one in each line.

    Raises:
        InputError: the file cannot be read, has no such column, or holds no text; it names file and line.
    """
    found = []
    for line, record in _records(path, column):
        where = f"'{path}' line {line}"
        rows.require_columns(list(record), [column], where, next_step="set transfer.text_column")
        found.append(rows.example(where, record[column]).text)
    if not found:
        raise InputError(f"'{path}' has no text", expected="at least one")
    return found


def _records(path: Path, column: str) -> Iterator[tuple[int, dict[str, Any]]]:
    kind = path.suffix.lower()
    if kind == ".jsonl":
        yield from records.jsonl(path)
    elif kind == ".csv":
        yield from records.csv_rows(path, "comma", [column], key="")
    else:
        lines = enumerate(records.text_of(path).split("\n"), start=1)
        yield from ((number, {column: line.removesuffix("\r")}) for number, line in lines if line.strip())
