"""What an audit says: links of a chain, each with a verdict, and whatever is not what it was recorded as."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from stages.core import artifact

SHORT = 12
NOTHING = "nothing"
DIGEST = re.compile("[0-9a-f]{64}")


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

    @property
    def added(self) -> bool:
        """Whether it is something beside what was recorded, all of which may be as it was."""
        return self.expected == NOTHING

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
        """`CHANGED`, `ADDED TO`; `intact`: the bytes were read; `recorded`: digests agree, the bytes are elsewhere."""
        if self.findings:
            return "ADDED TO" if all(finding.added for finding in self.findings) else "CHANGED"
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


def content(path: Path) -> str:
    """Return a file's sha256, or what stands in a file's place."""
    if artifact.is_link(path):
        return "a link"
    return artifact.sha256(path) if path.is_file() else "something else"


def additions(directory: Path, added: Mapping[str, str], recorded: Iterable[str]) -> list[Finding]:
    """Report what nothing lists, a directory that holds nothing else once: one `npm install` is one addition.

    Args:
        directory: where it lies.
        added: name → sha256, or what it is.
        recorded: names of what belongs there.
    """
    known = {parent for name in recorded for parent in PurePosixPath(name).parents} | {PurePosixPath()}
    counted = Counter[PurePosixPath]()
    for name in added:
        whole = (*reversed(PurePosixPath(name).parents), PurePosixPath(name))
        counted[next((part for part in whole if part not in known), whole[-1])] += 1
    return [
        Finding(str(directory / name), NOTHING if DIGEST.fullmatch(added[name]) else "a plain file", added[name])
        if name in added
        else Finding(f"{directory / name}/", NOTHING, f"{counted[PurePosixPath(name)]} file(s) that nothing lists")
        for name in sorted(part.as_posix() for part in counted)
    ]


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
