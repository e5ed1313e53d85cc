"""A local database that was moved or copied with its files: MLflow wrote down where they lay, by absolute path.

Left alone, a moved workspace loses its files and a copied one goes on writing into the store of the first.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Where MLflow keeps paths of files; `source` is a path for versions that other tools registered.
COLUMNS = {
    "experiments": ("artifact_location",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
    "runs": ("artifact_uri",),
}


def settle(connection: sqlite3.Connection, database: Path, experiment: str) -> Path | None:
    """Let everything that lay beside the database, before it was moved or copied, point to what lies beside it now.

    An experiment whose files were put elsewhere on purpose stays as it is. Records whose files did not come along keep
    pointing at the old ones; the experiment itself does not, so that nothing new is written there.

    Args:
        connection: to the database, held alone.
        database: its file.
        experiment: the experiment's name.

    Returns:
        Where its files are recorded to lie, if nothing lies there and nothing came along; None when all is well.
    """
    old = _recorded(connection, experiment)
    if old is None or old.parent == database.parent:
        return None
    if _was_beside(old, database):
        with connection:
            _point(connection, old.parent, database.parent)
            own = (database.parent / old.name).as_uri()
            connection.execute("UPDATE experiments SET artifact_location = ? WHERE name = ?", (own, experiment))
        return None
    written = connection.execute(
        "SELECT 1 FROM runs r JOIN experiments e USING (experiment_id) WHERE e.name = ?", (experiment,)
    ).fetchone()
    return old if written and not old.exists() else None


def elsewhere(database: Path, experiment: str) -> Path | None:
    """Return where an experiment's files are recorded to lie, if the database was moved or copied away from there."""
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        old = _recorded(connection, experiment)
    return old if old and _was_beside(old, database.resolve()) else None


def local(uri: str) -> Path | None:
    """Return the path that a location of MLflow's means on this host, None for a server's or a bucket's."""
    parts = urlsplit(uri)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    return Path(uri) if not parts.scheme and uri.startswith("/") else None


def _recorded(connection: sqlite3.Connection, experiment: str) -> Path | None:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone():
        return None
    row = connection.execute("SELECT artifact_location FROM experiments WHERE name = ?", (experiment,)).fetchone()
    return local(row[0]) if row and row[0] else None


def _was_beside(old: Path, database: Path) -> bool:
    """Whether files came along with a database, or were left with another copy of it."""
    away = old.parent != database.parent
    return away and ((database.parent / old.name).exists() or (old.parent / database.name).is_file())


def _point(connection: sqlite3.Connection, old: Path, new: Path) -> None:
    for table, columns in COLUMNS.items():
        have = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        for column in have & set(columns):
            for (value,) in connection.execute(f"SELECT DISTINCT {column} FROM {table}").fetchall():  # noqa: S608
                path = local(value) if value else None
                if path and path.is_relative_to(old) and (new / path.relative_to(old)).exists():
                    change = f"UPDATE {table} SET {column} = ? WHERE {column} = ?"  # noqa: S608
                    connection.execute(change, ((new / path.relative_to(old)).as_uri(), value))
