"""`build/clients.json`: what every client answered to which bundle, and whether those bundles may be promoted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.asking.answers import taking
from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.schema.clients import Clients

SCHEMA = 1


def read(path: Path) -> dict[str, Any]:
    """Return variant → {`artifact`, `bundle`: digests, `clients`: name → entry}; empty where none was asked yet.

    Raises:
        ArtifactError: the file is damaged, or of another schema.
    """
    if not path.is_file():
        return {}
    found = artifact.read_json(path)
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise ArtifactError(f"'{path}' is not of schema {SCHEMA}", next_step="delete it and run `make clients`")
    return dict(found["bundles"])


def write(path: Path, bundles: Mapping[str, Any]) -> None:
    """Write what `read` returns."""
    artifact.write_json(path, {"bundles": dict(bundles), "schema": SCHEMA})


def current(bundles: Mapping[str, Any], bundle: Path) -> dict[str, Any]:
    """Return the entries about the bundle that lies here, by client; answers about other bytes are passed over."""
    entry = bundles.get(bundle.name, {})
    return dict(entry["clients"]) if entry.get("bundle") == artifact.digest(bundle) else {}


def objections(settings: Clients, release: Path, bundles: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return variant → why its bundle may not be promoted, one line per required client.

    Args:
        settings: which clients are required.
        release: directory of the bundles.
        bundles: what `read` returned.
    """
    found: dict[str, list[str]] = {}
    for manifest in sorted(release.glob(f"*/{artifact.MANIFEST}")):
        entries = current(bundles, manifest.parent)
        for client in taking(manifest.parent):
            why = _objection(entries.get(client.name), settings.before_release)
            if why and client.name in settings.required:
                found.setdefault(manifest.parent.name, []).append(f"{client.name} {why}")
    return found


def summary(entries: Mapping[str, Any]) -> str:
    """Say in one line what clients answered: `mediapipe 50/50, core-ml not measured`; empty where none was asked."""
    return ", ".join(f"{name} {_brief(entry)}" for name, entry in sorted(entries.items()))


def _brief(entry: Mapping[str, Any]) -> str:
    if "n" not in entry:
        return str(entry["verdict"].replace("_", " "))
    same = f"{round(entry['top1_agreement'] * entry['n'])}/{entry['n']}"
    return same if entry["verdict"] == "pass" else f"{same} fail"


def _objection(entry: Mapping[str, Any] | None, before_release: bool) -> str | None:
    if entry is None:
        return "was not asked about this bundle" if before_release else None
    if entry["verdict"] == "pass" or (entry["verdict"] == "not_measured" and not before_release):
        return None
    return f"says {entry['verdict'].replace('_', ' ')}: {entry['reason']}"
