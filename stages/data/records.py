"""Records of JSON Lines and CSV, one after the other, each with its line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from stages.core.errors import InputError

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}


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


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object, for `object_pairs_hook`: `json` itself keeps the last of two equal keys in silence.

    Raises:
        InputError: a key is given twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise InputError(f"key '{next(key for key in keys if keys.count(key) > 1)}' is given twice in one object")
    return found


def jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number of each line and its object.

    Raises:
        InputError: the file cannot be read, or a line is no object.
    """
    # Not splitlines(): JSON strings may hold U+2028, which is no end of line in JSON Lines.
    for number, line in enumerate(text_of(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, object_pairs_hook=unique)
        except (ValueError, RecursionError) as error:
            raise InputError(f"'{path}' line {number} is not JSON: {error}", expected="one object per line") from error
        except InputError as error:
            raise InputError(f"'{path}' line {number}: {error}", expected="each key once") from error
        if not isinstance(record, dict):
            raise InputError(f"'{path}' line {number} is {line.strip()[:40]!r}", expected="one JSON object per line")
        yield number, record


def csv_rows(
    path: Path, delimiter: str, wanted: Sequence[str], key: str = "data.delimiter"
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number of the last line of each row, and its cells by the names in the first row.

    Args:
        path: the file.
        delimiter: one of `DELIMITERS`.
        wanted: columns that are needed.
        key: the setting that says the delimiter; empty where there is none.

    Raises:
        InputError: the file cannot be read, is not RFC 4180, or is cut at another character.
    """
    text = text_of(path)
    _check_delimiter(text, wanted, delimiter, path, key)
    # Not splitlines(): it also breaks cells at U+2028 and U+0085, which are text here.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=DELIMITERS[delimiter], strict=True)
    try:
        header = next(reader, [])
        for name in wanted:
            if header.count(name) > 1:
                raise InputError(f"'{path}' has {header.count(name)} columns '{name}'", expected="each column once")
        for cells in reader:
            if len(cells) > len(header):
                raise InputError(
                    f"'{path}' line {reader.line_num} has more cells than the first row",
                    expected=f"cells quoted where they hold a {delimiter}",
                )
            if cells:
                yield reader.line_num, dict(zip_longest(header, cells))
    except csv.Error as error:
        raise InputError(f"'{path}' line {reader.line_num} is not CSV: {error}", expected="RFC 4180 quoting") from error


def _check_delimiter(text: str, wanted: Sequence[str], delimiter: str, path: Path, key: str) -> None:
    """Refuse a file whose first row names the wanted columns when it is cut at another character."""
    first = text.partition("\n")[0]
    columns = {name: {cell.strip('"\r') for cell in first.split(mark)} for name, mark in DELIMITERS.items()}
    other = next((name for name, cells in columns.items() if set(wanted) <= cells), delimiter)
    if other != delimiter and not set(wanted) <= columns[delimiter]:
        raise InputError(
            f"'{path}' is separated by {other}s, not by {delimiter}s",
            next_step=f"set {key}={other}" if key else f"write it with {delimiter}s",
        )
