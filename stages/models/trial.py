"""Parse a tokenizer from outside and put texts through it: `confined.run` runs this file in a child under limits.

Why: a tokenizer.json may ask for more memory than the machine has, which aborts the process that reads it.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Every printable ASCII character, and of the others one for each way Unicode has of being awkward: composed,
# combining, full-width, zero-width, right to left, outside the first plane.
CHARACTERS = [*map(chr, range(0x20, 0x7F)), "\n", "é", "\u0301", "Ａ", "漢", "\u200b", "\u202e", "א", "😀"]
REPEATED = 64


def replaced(node: Any) -> Iterator[int]:
    """Yield the lengths of all texts that a rule puts in the place of another."""
    if isinstance(node, dict):
        if node.get("type") == "Replace":
            yield len(node.get("content") or "")
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from replaced(value)


def try_json(path: Path, growth: int) -> str | None:
    """Return what is wrong with a tokenizer.json, None if it behaves.

    Args:
        path: the file.
        growth: tokens, or characters put in by rules, that one character may become.
    """
    from tokenizers import Tokenizer

    rules = json.loads(path.read_text(encoding="utf-8"))
    # Rules feed each other, and one that waits for a rare word is met by no text tried here.
    grown = math.prod(max(1, length) for length in replaced({**rules, "model": None}))
    if grown > growth:
        return f"its Replace rules can make {grown} characters of one"
    tokenizer = Tokenizer.from_file(str(path))
    for text in [*(character * REPEATED for character in CHARACTERS), "".join(CHARACTERS)]:
        if len(tokenizer.encode(text).ids) > growth * len(text):
            return f"it makes {len(tokenizer.encode(text).ids)} tokens of {len(text)} characters"
    return None


def try_sentencepiece(path: Path) -> str | None:
    """Return None if a SentencePiece model parses; the child dies or raises otherwise."""
    from sentencepiece import SentencePieceProcessor

    SentencePieceProcessor(model_file=str(path)).encode("".join(CHARACTERS))
    return None


if __name__ == "__main__":
    _path, _growth = Path(sys.argv[1]), int(sys.argv[2])
    sys.exit(try_json(_path, _growth) if _path.suffix == ".json" else try_sentencepiece(_path))
