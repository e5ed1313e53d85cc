"""The two runs that decide what ships, the gate's and the release's: which code and settings they ran with.

Every other stage's settings stand in its manifest; what these two ran with stands in their statements alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.core import attest
from stages.lineage.chain import Ground, made
from stages.lineage.findings import Link

MALFORMED = (ValueError, KeyError, TypeError, AttributeError, IndexError)


def ran(link: Link, ground: Ground, statement: Mapping[str, Any], deed: str) -> None:
    """Add to a link when, where and by which code a run was, and hold that code and the settings to git.

    Args:
        link: the run.
        ground: where to look.
        statement: the run's.
        deed: what it did, for people: `judged`.

    Raises:
        KeyError, TypeError, …: the statement is not what a stage writes (`MALFORMED`).
    """
    depends = {entry["name"]: entry for entry in statement["predicate"]["buildDefinition"]["resolvedDependencies"]}
    files = dict(depends["code"]["annotations"]["files"])
    settings = {name: depends[name]["digest"]["sha256"] for name in attest.SETTINGS if name in depends}
    dirty = set(depends["revision"]["annotations"]["dirty"])
    link.notes.append(made(statement["predicate"], depends["revision"]))
    for what, names in (("code", files), ("settings", settings)):
        if uncommitted := sorted(dirty.intersection(names)):
            link.unfollowed.append(f"{deed} by uncommitted {what}: {', '.join(uncommitted)}; no revision has it")
    if ground.repository:
        decisive = {"annotations": {"files": files | settings}}
        agreed, wrong, unknown = ground.repository.compare(decisive, depends["revision"])
        link.notes += [agreed] if agreed else []
        link.findings += wrong
        link.unfollowed += [] if agreed else unknown
