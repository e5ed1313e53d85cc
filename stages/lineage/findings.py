"""What an audit says: links of a chain, each with a verdict, and whatever is not what it was recorded as."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SHORT = 12


@dataclass(frozen=True)
class Finding:
    """Something that is not what it was recorded as.

    Attributes:
        file: what changed: a file, an object of the cache, a field of a record.
        expected: what was recorded.
        found: what is there.
    """

    file: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.file}: expected {self.expected}, found {self.found}"


@dataclass
class Link:
    """One step of the chain.

    Attributes:
        name: what it is: `artifact onnx-cpu-fp32`.
        digest: sha256 of its manifest, or of the file it is.
        directory: where its bytes lie (of a plain file, the file), None where they are not here; they were read.
        notes: what is known of it.
        findings: what is wrong with it.
        unfollowed: what could not be checked from here, and why.
        below: what it was made from.
        again: whether it stands elsewhere in the tree with everything below it.
    """

    name: str
    digest: str = ""
    directory: Path | None = None
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    unfollowed: list[str] = field(default_factory=list)
    below: list[Link] = field(default_factory=list)
    again: bool = False

    @property
    def verdict(self) -> str:
        """`CHANGED`; `intact`: the bytes were read; `recorded`: the digests agree and the bytes are elsewhere."""
        if self.findings:
            return "CHANGED"
        if self.directory:
            return "intact"
        return "recorded" if self.digest else "not followed" if self.unfollowed else "agrees"

    def all(self) -> Iterator[Link]:
        """Yield this link and everything below it."""
        yield self
        for link in self.below:
            yield from link.all()

    def plain(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "below": [link.plain() for link in self.below],
            "digest": self.digest,
            "findings": [vars(finding) for finding in self.findings],
            "name": self.name,
            "notes": self.notes,
            "unfollowed": self.unfollowed,
            "verdict": self.verdict,
        }


def findings(root: Link) -> list[Finding]:
    """Return everything that is wrong in a tree, each thing once."""
    return list(dict.fromkeys(finding for link in root.all() for finding in link.findings))


def draw(root: Link) -> str:
    """Draw a tree, one link per line with its verdict; what is wrong or unknown stands below its link."""
    return "\n".join(printable(line) for line in _lines(root, "", ""))


def printable(text: str) -> str:
    """Replace what a name in a foreign bundle could steer a terminal with."""
    return re.sub(r"[^\x20-\x7e\xa0-\uffff]", "?", text)


def _lines(link: Link, first: str, rest: str) -> Iterator[str]:
    digest = f" {link.digest[:SHORT]}" if link.digest else ""
    again = " (above)" if link.again else ""
    yield f"{first}{link.name}{digest}: {link.verdict}{again}"
    inside = rest + ("│  " if link.below else "   ")
    for finding in link.findings:
        yield f"{inside}! {finding}"
    for note in link.notes:
        yield f"{inside}  {note}"
    for reason in link.unfollowed:
        yield f"{inside}? {reason}"
    for index, below in enumerate(link.below):
        last = index == len(link.below) - 1
        yield from _lines(below, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))
