"""What may be a label: a line of text that every client shows and compares as it stands."""

from __future__ import annotations

import unicodedata
from typing import Any

# Categories of line separators and control characters. Joiners (Cf) are letters' business: Persian and Hindi need them.
BREAKING = {"Cc", "Cs", "Zl", "Zp"}
# What turns the direction of all that follows, on a screen.
TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def fault(label: Any) -> str | None:
    """Say what is wrong with a label, None if nothing is.

    Clients read `labels.txt` line by line and tables cell by cell: a line break shifts every name after it, and a
    space at an end makes two labels that look alike.
    """
    if not isinstance(label, str):
        return "is no text"
    if not label.strip():
        return "is empty"
    if label != label.strip():
        return "begins or ends with a space"
    if any(unicodedata.category(one) in BREAKING or unicodedata.bidirectional(one) in TURNING for one in label):
        return "has a line break or another character that cannot be printed"
    return None
