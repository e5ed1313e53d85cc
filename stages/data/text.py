"""Plain text: files of it, or what every machine with Python has, its own language reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random

from stages.core.errors import InputError
from stages.data.records import text_of
from stages.data.splits import Example, Source, normalise
from stages.schema.data import Text

FEWEST = 64
"""Pieces that a text must be cut into at least, to be split at all."""
TELLING = 32
"""Characters from which on a paragraph that comes again is the same one, and no turn of phrase."""


def load(data: Text) -> Source:
    """Cut text into pieces at blank lines, and draw validation and test from among them.

    A paragraph is taken once: what is quoted elsewhere would else be learnt and asked for.

    Raises:
        InputError: no such file, no UTF-8, or too little text.
    """
    files = _files(data.path)
    texts = [text_of(path) for path in files.values()] if files else list(_reference())
    seen: set[str] = set()
    cuts = (cut(paragraphs(text, seen), data.piece_characters) for text in texts)
    pieces = list(dict.fromkeys(piece for found in cuts for piece in found))
    if len(pieces) < FEWEST:
        raise InputError(
            f"the text is {len(pieces)} different pieces of {data.piece_characters} characters",
            expected=f"{FEWEST} or more",
            next_step="give more text, or lower data.piece_characters",
        )
    Random(f"{data.seed}/text").shuffle(pieces)  # noqa: S311
    held = {"test": round(data.test_share * len(pieces)), "validation": round(data.validation_share * len(pieces))}
    splits, taken = {}, 0
    for split, size in held.items():
        splits[split] = [Example(piece, None) for piece in pieces[taken : taken + max(1, size)]]
        taken += max(1, size)
    return Source({"train": [Example(piece, None) for piece in pieces[taken:]], **splits}, files)


def paragraphs(text: str, seen: set[str]) -> Iterator[str]:
    """Yield what stands between blank lines, unless it is among `seen`, which it then joins."""
    for paragraph in text.replace("\r\n", "\n").split("\n\n"):
        same = normalise(paragraph)
        if same and same not in seen:
            yield paragraph.strip("\n")
        if len(same) >= TELLING:
            seen.add(same)


def cut(text: Iterable[str], size: int) -> Iterator[str]:
    """Yield a text's paragraphs, short ones joined until they have `size` characters."""
    held: list[str] = []
    for paragraph in text:
        held.append(paragraph)
        if sum(map(len, held)) >= size:
            yield "\n\n".join(held)
            held = []
    if held:
        yield "\n\n".join(held)


def _files(path: str | None) -> dict[str, Path]:
    if path is None:
        return {}
    place = Path(path)
    found = sorted(place.rglob("*.txt")) if place.is_dir() else [place]
    if not found:
        raise InputError(f"'{path}' holds no text", expected="a file, or a directory with files named *.txt")
    return {str(file.relative_to(place)) if place.is_dir() else file.name: file for file in found}


def _reference() -> Iterator[str]:
    """Yield the topics of the language reference that Python's own help shows (PSF licence)."""
    from pydoc_data.topics import topics

    yield from (text for _, text in sorted(topics.items()))
