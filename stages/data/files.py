"""Utterances from one JSON Lines or CSV file per split."""

from __future__ import annotations

from pathlib import Path

from stages.data import records, rows
from stages.data.splits import RAW, Example, Source
from stages.schema.data import Files, JsonLines


def load(data: Files) -> Source:
    """Read train, test and, where there is one, validation.

    Raises:
        InputError: a file is missing, unreadable, malformed or lacks a column, or a row has no usable text or
            label; the message names file and line.
    """
    files = {split: Path(getattr(data, split)) for split in RAW if getattr(data, split) is not None}
    return Source(splits={split: _read(path, data) for split, path in files.items()}, files=files)


def _read(path: Path, data: Files) -> list[Example]:
    columns = [name for name in (data.text_column, data.label_column) if name is not None]
    found = records.jsonl(path) if isinstance(data, JsonLines) else records.csv_rows(path, data.delimiter, columns)
    examples = []
    for line, record in found:
        where = f"'{path}' line {line}"
        rows.require_columns(list(record), columns, where)
        examples.append(rows.example(where, *(record[name] for name in columns)))
    return examples
