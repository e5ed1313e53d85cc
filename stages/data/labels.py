"""What a label may be: one printable line, since clients print it and label files hold one a line."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from stages.core.errors import InputError

UNPRINTABLE = ("Cc", "Cn", "Co", "Cs", "Zl", "Zp")
"""Unicode's general categories of what no line holds: controls, line and paragraph ends, what has no character."""
FORMAT = "Cf"
"""Joiners and direction marks: invisible, and needed inside words of some scripts."""
DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Of those, the ones that make what follows a label read backwards."""


def flaw(label: str) -> str:
    """Return why a label is no single printable line, empty where it is one."""
    for character in label:
        if unicodedata.category(character) in UNPRINTABLE or character in DIRECTIONS:
            return f"holds the unprintable character U+{ord(character):04X}"
    return "begins or ends with white space" if label != label.strip() else ""


def check_distinct(labels: Iterable[str]) -> None:
    """Check that no two labels look alike, which a slip of somebody's table makes of one.

    Raises:
        InputError: names two that differ in white space, invisible characters or Unicode's form alone.
    """
    alike: dict[str, set[str]] = defaultdict(set)
    for label in labels:
        alike[_look(label)].add(label)
    for group in alike.values():
        if len(group) > 1:
            first, second = sorted(group)[:2]
            raise InputError(
                f"labels {first!a} and {second!a} look alike",
                expected="one spelling of each label",
                next_step="correct the label column",
            )


def _look(label: str) -> str:
    """Return what is seen of a label, however it is encoded (NFKC of Unicode Standard Annex 15)."""
    seen = "".join(character for character in label if unicodedata.category(character) != FORMAT)
    return " ".join(unicodedata.normalize("NFKC", seen).split())
