"""A data set of the `datasets` library: a hub id at a pinned revision, or a local directory.

A local directory holds one json, jsonl, csv or parquet file (or folder) per split, or is what `save_to_disk` wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stages.core.errors import InputError, first_line
from stages.data import rows
from stages.data.splits import RAW, Example, Source
from stages.schema.data import Hub

COMMIT = re.compile(r"[0-9a-f]{40}")
LOCALLY = "set data.path to a local directory of json, csv or parquet files, one per split, or of `save_to_disk`"


def load(data: Hub) -> Source:
    """Read train, test and, where there is one, validation.

    Raises:
        InputError: there is no such directory or hub data set, no network, no pinned revision, no such split or
            column, or a row without usable text or label.
    """
    import datasets

    directory = Path(data.path)
    if not directory.is_dir():
        _require_commit(data)
    datasets.disable_progress_bars()
    with _cache(directory) as cache:
        named = {split: name for split in RAW if (name := getattr(data, split)) is not None}
        splits = {split: _examples(_open(data, name, cache), data, split) for split, name in named.items()}
    return Source(splits=splits, files=_files(directory), tools=("datasets",))


def _require_commit(data: Hub) -> None:
    if data.revision is None or not COMMIT.fullmatch(data.revision):
        raise InputError(
            f"'{data.path}' is no directory here, and as a hub id its revision is '{data.revision}'",
            expected="data.revision to be a commit hash of 40 hex digits (a branch can change under you)",
            next_step=f"pin the revision, or {LOCALLY}",
        )


@contextmanager
def _cache(directory: Path) -> Iterator[str | None]:
    """Yield where `datasets` may cache: nowhere lasting for local files, so that no stale copy is ever read."""
    if not directory.is_dir():
        yield None
        return
    with TemporaryDirectory() as temporary:
        yield temporary


def _open(data: Hub, split: str, cache: str | None) -> Any:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    local = cache is not None
    try:
        return load_dataset(data.path, split=split, revision=None if local else data.revision, cache_dir=cache)
    except ConnectionError as error:
        raise InputError(
            f"cannot reach the hub for data set '{data.path}': {first_line(error)}",
            expected="network, or a copy in the cache of `datasets`",
            next_step=LOCALLY,
        ) from error
    except (DatasetsError, OSError, ValueError, TypeError) as error:
        raise InputError(
            f"`datasets` cannot read split '{split}' of '{data.path}': {first_line(error)}", next_step=LOCALLY
        ) from error


def _examples(table: Any, data: Hub, split: str) -> list[Example]:
    where = f"'{data.path}' {split}"
    columns = [name for name in (data.text_column, data.label_column) if name is not None]
    rows.require_columns(table.column_names, columns, where)
    for name in columns:
        # pandas, which reads CSV for `datasets`, names the second of two equal columns so.
        if f"{name}.1" in table.column_names:
            raise InputError(f"{where} has two columns '{name}'", expected="each column once")
    records = zip(*(_column(table, name) for name in columns), strict=True)
    return [rows.example(f"{where} row {row}", *record) for row, record in enumerate(records)]


def _column(table: Any, name: str) -> list[Any]:
    """Read a column, classes by their names; the hub writes -1 for a hidden label, which is none."""
    names = getattr(table.features[name], "names", None)
    if names is None:
        return list(table[name])
    return [label if not isinstance(label, int) else names[label] if label >= 0 else None for label in table[name]]


def _files(directory: Path) -> dict[str, Path]:
    if not directory.is_dir():
        return {}
    found = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path for path in found}
