"""Bring what a build consists of to where it is published from.

DVC pulls a dependency that is missing, but not a directory in which many stages have their outputs, and the whole build
is made of such. `dvc repro --pull --allow-missing` in a fresh clone would therefore start `track` with next to nothing.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from stages.core.errors import ArtifactError
from stages.schema.layout import behind
from stages.schema.verdict import Entry


def needed(build: Path, judged: Mapping[str, Entry]) -> list[Path]:
    """Return the outputs that a record of the build reads, beside verdicts and report.

    Args:
        build: directory of all stage outputs.
        judged: variant → its verdict.
    """
    places = (behind(build, key, entry["compression"], entry["target"]) for key, entry in judged.items())
    return list(dict.fromkeys(path for found in places for path in found.values()))


def lay_out(build: Path, judged: Mapping[str, Entry]) -> list[Path]:
    """Fetch what is not here; a build whose outputs lie here asks nobody.

    Returns:
        What was fetched.

    Raises:
        ArtifactError: DVC has it neither in its cache nor in a remote.
    """
    missing = [path for path in needed(build, judged) if not path.exists()]
    if not missing:
        return []
    command = [sys.executable, "-m", "dvc", "pull", *(path.as_posix() for path in missing)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    still = [path for path in missing if not path.exists()]
    if still:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise ArtifactError(
            f"'{still[0]}' is not here ({len(still)} outputs), and `dvc pull` does not bring it{': ' if said else ''}"
            f"{''.join(said[:1]).removeprefix('ERROR: ')}",
            next_step="push it from where it was built (`dvc push`), or run `dvc repro` without --allow-missing",
        )
    return missing
