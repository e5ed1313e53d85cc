"""What the clients that apps use answered to the bundles, and the page that lets a reader ask one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core import artifact
from stages.schema import layout


@dataclass(frozen=True)
class Asked:
    """A client and what it answered.

    Attributes:
        name: the client.
        version: of its distributions, where it ran.
        answers: variant → its entry in `clients.json`.
    """

    name: str
    version: str
    answers: dict[str, dict[str, Any]]

    @property
    def absent(self) -> str:
        """Return why nothing was measured, empty where something was."""
        measured = any(entry["verdict"] != "not_measured" for entry in self.answers.values())
        return "" if measured else next(iter(self.answers.values()))["reason"]


def read_clients(keys: Iterable[str], build: Path) -> list[Asked]:
    """Read what was asked about the artifacts that lie here; answers about other bytes are passed over.

    Args:
        keys: the chosen variants, in the order of their rows.
        build: directory of all stage outputs.

    Returns:
        Clients by name; empty where none was asked.
    """
    path = build / layout.CLIENTS
    known = artifact.read_json(path)["bundles"] if path.is_file() else {}
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for key in keys:
        if key in known and known[key]["artifact"] == artifact.digest(layout.place(build, "artifact", variant=key)):
            for name, entry in known[key]["clients"].items():
                found.setdefault(name, {})[key] = entry
    return [
        Asked(name, next((entry["version"] for entry in answers.values() if entry.get("version")), ""), answers)
        for name, answers in sorted(found.items())
    ]


def demo(keys: Iterable[str], build: Path) -> str | None:
    """Return the demo page's address as the report links it, None where there is none of today's bundles."""
    directory = build / layout.DEMO
    if not (directory / artifact.MANIFEST).is_file():
        return None
    shown = artifact.manifest(directory)["parents"]
    if not set(shown) <= set(keys) or any(not _is_current(key, digest, build) for key, digest in shown.items()):
        return None
    return "../demo/index.html"


def _is_current(key: str, digest: str, build: Path) -> bool:
    bundle = build / layout.RELEASE / key
    if not (bundle / artifact.MANIFEST).is_file() or artifact.digest(bundle) != digest:
        return False
    here = artifact.digest(layout.place(build, "artifact", variant=key))
    return bool(artifact.manifest(bundle)["parents"]["artifact"] == here)
