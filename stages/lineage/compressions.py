"""The compressions that a chained one started from, as their manifests tell."""

from __future__ import annotations

from pathlib import Path

from stages.core import artifact


def earlier(build: Path, name: str) -> dict[str, Path]:
    """Return role → stage output of every compression between one and the student, the nearest first.

    Args:
        build: directory of all stage outputs.
        name: the compression.
    """
    found: dict[str, Path] = {}
    while after := artifact.manifest(build / "compressed" / name)["params"].get("compression", {}).get("after"):
        name, role = after, f"compressed-{after}"
        if role in found:  # in no manifest that a stage wrote
            break
        found[role] = build / "compressed" / name
    return found
