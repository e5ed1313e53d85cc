"""Where every stage's output lies in a build directory, as dvc.yaml says it to DVC, and what lies behind a variant."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stages.core import artifact

PLACES: Mapping[str, str] = {
    "data": "data",
    "teacher": "teacher",
    "student": "student",
    "compressed": "compressed/{compression}",
    "reference": "reference/{compression}",
    "converted": "converted/{compression}-{target}",
    "artifact": "artifact/{variant}",
    "parity": "parity/{variant}",
    "benchmark": "benchmark/{variant}",
}
"""What may lie behind a variant, in the order in which it is made."""
BESIDE: Mapping[str, str] = {"coverage": "coverage/{variant}"}
"""What is told of a variant and makes none of its bytes or answers: no bundle holds it."""
CHECKPOINTS = ("teacher", "student")
"""What was scored before anything was built from it."""
MEASURED = ("parity", "benchmark")
"""What a verdict judges: it names their digests."""
TRANSFER, TEXT = "transfer", "text-"
"""Role of what the teacher was asked, where it was, and how the roles of the user's own texts in it begin."""
RELEASE, REPORT, DEMO, OPINIONS = "release", "report", "demo", "second_opinion"
VERDICTS, EXPLAINED, CLIENTS, HOST = "verdicts.json", "explained.json", "clients.json", "host.json"


def place(build: Path, role: str, **names: str) -> Path:
    """Return where an output lies.

    Args:
        build: directory of all stage outputs.
        role: which output.
        names: of its instance: `variant`, or `compression` and, of a converted model, `target`.
    """
    return build / {**PLACES, **BESIDE}[role].format(**names)


def behind(build: Path, variant: str, compression: str, target: str) -> dict[str, Path]:
    """Return role → stage output of everything behind a variant; `earlier` knows more of a chained compression."""
    return {role: place(build, role, variant=variant, compression=compression, target=target) for role in PLACES}


def learnt_from(build: Path) -> dict[str, Path]:
    """Return role → stage output of what the student learnt from beside data and teacher, as the manifests tell."""
    student, transfer = artifact.manifest(place(build, "student")), build / TRANSFER
    if TRANSFER not in student["parents"]:
        return {}
    numbers = (role.removeprefix(TEXT) for role in artifact.manifest(transfer)["parents"] if role.startswith(TEXT))
    return {TRANSFER: transfer, **{f"{TEXT}{number}": build / "text" / number for number in numbers}}


def earlier(build: Path, compression: str) -> dict[str, Path]:
    """Return role → stage output of every compression between one and the student, the nearest first.

    Which they are is what the manifests tell, not what params.yaml says today.
    """
    found: dict[str, Path] = {}
    path = place(build, "compressed", compression=compression)
    while after := artifact.manifest(path)["params"].get("compression", {}).get("after"):
        path, role = place(build, "compressed", compression=after), f"compressed-{after}"
        if role in found:  # in no manifest that a stage wrote
            break
        found[role] = path
    return found
