"""Compare the code that a statement names with a git revision."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any

from stages.lineage.findings import SHORT, Finding


class Repository:
    """The git repository here; each blob is read once, however many statements name it."""

    def __init__(self) -> None:
        """Start without knowing anything."""
        self._digests: dict[tuple[str, str], list[str]] = {}

    def compare(self, code: Mapping[str, Any], revision: Mapping[str, Any]) -> tuple[str, list[Finding], list[str]]:
        """Hold a statement's code to its revision.

        Args:
            code: the statement's dependency `code`.
            revision: its dependency `revision`.

        Returns:
            A note, what differs, and what could not be compared.
        """
        rev, dirty = revision["digest"]["gitCommit"], set(revision["annotations"]["dirty"])
        inside = revision["annotations"].get("directory", "")
        files: dict[str, str] = code["annotations"]["files"]
        if missing := self._why_not(rev):
            return "", [], [f"code: {missing}"]
        clean = sorted(set(files) - dirty)
        self._read(rev, [f"{inside}{name}" for name in clean])
        found = [
            Finding(f"{inside}{name} at {rev[:SHORT]}", files[name], self._digests[rev, f"{inside}{name}"][0])
            for name in clean
            if files[name] not in self._digests[rev, f"{inside}{name}"]
        ]
        uncommitted = [f"code: {name} was not committed; no revision has it" for name in sorted(set(files) & dirty)]
        return f"code: {len(clean) - len(found)} of {len(files)} files are those of {rev[:SHORT]}", found, uncommitted

    def _why_not(self, rev: str) -> str:
        """Say why nothing can be compared with a revision; nothing where it is here."""
        absent = f"revision {rev[:SHORT]} is not in a git repository here"
        try:
            done = subprocess.run(["git", "cat-file", "-e", f"{rev}^{{commit}}"], capture_output=True, text=True)
        except FileNotFoundError:
            return f"{absent}: there is no git"
        if "safe.directory" in done.stderr:
            return f"git does not trust this repository; run `{done.stderr.strip().splitlines()[-1].strip()}`"
        return absent if done.returncode else ""

    def _read(self, rev: str, names: Iterable[str]) -> None:
        wanted = [name for name in names if (rev, name) not in self._digests]
        asked = "".join(f"{rev}:{name}\n" for name in wanted).encode()
        answer = subprocess.run(["git", "cat-file", "--batch"], input=asked, capture_output=True, check=True).stdout
        for name in wanted:
            header, _, answer = answer.partition(b"\n")
            if header.endswith(b" missing"):
                self._digests[rev, name] = ["no such file"]
                continue
            size = int(header.split()[-1])
            blob = answer[:size]
            # As it is, and as git checks it out where lines are to end as on Windows.
            self._digests[rev, name] = [hashlib.sha256(each).hexdigest() for each in (blob, _with_crlf(blob))]
            answer = answer[size + 1 :]


def _with_crlf(blob: bytes) -> bytes:
    return blob.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
