"""Utterances from one JSON Lines or CSV file per split."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.core.errors import InputError
from stages.data import rows
from stages.data.splits import RAW, Example, Source
from stages.schema.data import Files


def load(data: Files) -> Source:
    """Read train, validation and test.

    Raises:
        InputError: a file is missing, unreadable, malformed or lacks a column, or a row has no usable text or
            label; the message names file and line.
    """
    files = {split: Path(getattr(data, split)) for split in RAW}
    return Source(splits={split: _read(path, data) for split, path in files.items()}, files=files)


def text_of(path: Path) -> str:
    """Return a file's UTF-8 text, without a byte order mark.

    Raises:
        InputError: it is missing, unreadable or not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(
            f"cannot read '{path}': {error.strerror or error}",
            expected="a readable file (relative paths start at the directory of dvc.yaml)",
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}' is not UTF-8 text (byte {error.start})", expected="UTF-8") from error


def _read(path: Path, data: Files) -> list[Example]:
    records = {"jsonl": _jsonl, "csv": _csv}[data.kind](path)
    columns = (data.text_column, data.label_column)
    examples = []
    for line, record in records:
        where = f"'{path}' line {line}"
        rows.require_columns(list(record), columns, where)
        examples.append(rows.example(record[data.text_column], record[data.label_column], where))
    return examples


def _jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    # Not splitlines(): JSON strings may hold U+2028, which is no end of line in JSON Lines.
    for number, line in enumerate(text_of(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError(f"'{path}' line {number} is not JSON: {error}", expected="one object per line") from error
        if not isinstance(record, dict):
            raise InputError(f"'{path}' line {number} is {line.strip()[:40]!r}", expected="one JSON object per line")
        yield number, record


def _csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    # Not splitlines(): it also breaks cells at U+2028 and U+0085, which are text here.
    reader = csv.DictReader(io.StringIO(text_of(path), newline=""), strict=True)
    try:
        for record in reader:
            if None in record:
                raise InputError(
                    f"'{path}' line {reader.line_num} has more cells than the first row", expected="quoted commas"
                )
            yield reader.line_num, record
    except csv.Error as error:
        raise InputError(f"'{path}' line {reader.line_num} is not CSV: {error}", expected="RFC 4180 quoting") from error
