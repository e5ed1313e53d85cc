"""Which revision the code here is: as git says, or, where there is no git, as whoever copied it said.

A wrong revision is worse than none, so git's refusals are errors here, and a directory that merely lies inside another
repository is not taken for a part of it.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from stages.core.errors import InputError

UNKNOWN = "unknown"
VARIABLE = "TINSMITH_REVISION"
# `git archive` fills it in (.gitattributes), and so do the source archives that forges offer.
ARCHIVED = Path("REVISION")
COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
# What decides a build: a build's own products, dvc.lock among them, do not make a revision dirty.
DECISIVE = ("clone/dvc.yaml", "conf", "stages", "constraints.txt", "dvc.yaml", "params.yaml")


@dataclass(frozen=True)
class Revision:
    """What is known of the code's origin.

    Attributes:
        commit: hex digits of the commit, `unknown` where nobody says.
        dirty: decisive files that differ from it.
        directory: where the project lies in its repository, `` or `sub/project/`.
        stated: who says so where it is not git: `REVISION` or `TINSMITH_REVISION`.
    """

    commit: str
    dirty: tuple[str, ...] = ()
    directory: str = ""
    stated: str = ""


def find() -> Revision:
    """Return the revision of the working directory's code.

    Raises:
        InputError: git refuses to answer, or what is stated is no commit, or not git's.
    """
    stated = _stated()
    if not _is_tracked():
        return stated
    head = _git("rev-parse", "--verify", "--quiet", "HEAD")
    if head is None:
        raise InputError("this git repository has no commit yet", next_step="commit what lies here, then rerun")
    commit = head.strip()
    if stated.stated == VARIABLE and stated.commit != commit:
        raise InputError(f"{VARIABLE} says {stated.commit}, git says {commit}", next_step=f"unset {VARIABLE}")
    directory = (_git("rev-parse", "--show-prefix") or "").rstrip("\n")
    status = _git("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", *DECISIVE) or ""
    # Paths are relative to the top of the repository, whatever part of it this is.
    names = (entry[3:] for entry in status.split("\0") if entry)
    return Revision(commit, tuple(sorted(name.removeprefix(directory) for name in names)), directory)


def require() -> None:
    """Refuse to make what would say `revision unknown` for ever.

    Raises:
        InputError: names what is missing and how to state it.
    """
    if find().commit == UNKNOWN:
        raise InputError(
            "nothing says which revision this code is",
            expected=f"a git repository, the file {ARCHIVED} of a `git archive`, or {VARIABLE}=COMMIT",
            next_step=f"export {VARIABLE} with the commit that was copied (docs/teams.md)",
        )


def _stated() -> Revision:
    said = os.environ.get(VARIABLE)
    if said is not None:
        if not COMMIT.fullmatch(said):
            raise InputError(f"{VARIABLE} is '{said}'", expected="a commit's 40 (or 64) hex digits")
        return Revision(said, stated=VARIABLE)
    found = ARCHIVED.read_text(encoding="utf-8").strip() if ARCHIVED.is_file() else ""
    return Revision(found, stated=ARCHIVED.name) if COMMIT.fullmatch(found) else Revision(UNKNOWN)


def _is_tracked() -> bool:
    """Whether git knows this project, not just a directory around it."""
    if _git("rev-parse", "--git-dir") is None:
        return False
    present = [name for name in DECISIVE if Path(name).exists()]
    return not present or bool(_git("ls-files", "--cached", "--", *present)) or Path(".git").exists()


def _git(*arguments: str) -> str | None:
    """Run git; None where there is no repository, no git, or nothing to say.

    Raises:
        InputError: there is a repository that git does not want to read.
    """
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
        )
    except FileNotFoundError as error:
        if Path(".git").exists():
            raise InputError("this is a git checkout, and there is no git", next_step="install git") from error
        return None
    said = done.stderr.strip()
    if done.returncode == 0:
        return done.stdout
    if not said or "not a git repository (or any" in said:
        return None
    trust = re.search(r"git config --global --add safe\.directory .+", said)
    advice = f"run `{trust.group()}`, or as the owner of this directory" if trust else "run `git status` to see why"
    raise InputError(f"git does not say which revision this is: {said.splitlines()[0]}", next_step=advice)
