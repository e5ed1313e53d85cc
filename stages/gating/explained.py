"""What is known of the reasons of a verdict beyond its numbers: `explained.json`, beside the verdicts it explains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.core import artifact
from stages.schema.layout import EXPLAINED
from stages.schema.verdict import Entry, read


def write(out: Path, verdicts: Path, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Write what was found of each failing variant.

    Args:
        out: the file.
        verdicts: the file that holds the verdicts.
        found: variant → `conclusion`, one line, and its parts.
    """
    artifact.write_json(out, {"variants": dict(found), "verdicts": artifact.sha256(verdicts)})


def read_verdicts(verdicts: Path) -> dict[str, Entry]:
    """Read the verdicts as people are shown them: the last of a variant's reasons is where it went wrong.

    Args:
        verdicts: the file; its explanations lie beside it. Those of other verdicts, or none, add nothing: a build that
            stopped between the two is shown as far as it came.

    Returns:
        Variant → its entry, of a failing one `reasons` with the conclusion and `divergence` with all its parts.
    """
    entries = read(verdicts)
    path = verdicts.with_name(EXPLAINED)
    if not path.is_file():
        return entries
    explained = artifact.read_json(path)
    if explained["verdicts"] == artifact.sha256(verdicts):
        for key, found in explained["variants"].items():
            entries[key] |= {"divergence": found, "reasons": [*entries[key]["reasons"], found["conclusion"]]}
    return entries
