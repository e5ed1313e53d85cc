"""Make an artifact again from its parents, by the command that its statement recorded, and compare bytes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.lineage.bundle import files, statement_path
from stages.lineage.findings import Finding, Link

# The steps that follow from their parents alone, whatever the host; training and measuring are not among them.
REBUILT = ("artifact", "converted")


def again(root: Link, build: Path) -> list[Link]:
    """Rebuild every artifact and conversion of a chain from the outputs in `build` that they were made from.

    A link that changed is left alone: its statement may be another's too, and what it says would be run.

    Raises:
        ArtifactError: the chain has none of which the bytes and the statement lie here.
    """
    sound = [link.directory for link in root.all() if link.directory and not link.findings]
    places = {place for place in sound if place.parent.name in REBUILT}
    found = [_rebuild(place, build) for place in sorted(places) if statement_path(build, place).is_file()]
    if not found:
        raise ArtifactError(
            f"nothing in the chain of {root.name} can be made again: its artifact is not in '{build}', or changed",
            next_step="check out the revision that made it, then run `dvc checkout` or `dvc repro`",
        )
    return found


def command(recorded: Sequence[str], out: Path) -> list[str]:
    """Return a recorded command that writes elsewhere and attests nothing.

    `python -m stages.quantize … --out build/artifact/V --statement S` → `… --out OUT`
    """
    arguments = [sys.executable, *recorded[1:]]
    arguments[arguments.index("--out") + 1] = str(out)
    where = arguments.index("--statement")
    return arguments[:where] + arguments[where + 2 :]


def _rebuild(place: Path, build: Path) -> Link:
    statement = artifact.read_json(statement_path(build, place))
    recorded = statement["predicate"]["buildDefinition"]["externalParameters"]["command"]
    link = Link(f"rebuilt {place.relative_to(build)}")
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / place.name
        done = subprocess.run(command(recorded, out), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            link.findings.append(Finding(str(place), "that its command succeeds", last))
            return link
        before, after = ({name: artifact.sha256(where / name) for name in files(where)} for where in (place, out))
    link.findings = [
        Finding(str(place / name), before.get(name, "nothing"), f"{after.get(name, 'nothing')} when made again")
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    if not link.findings:
        link.notes.append(f"{len(after)} files, byte for byte the same")
    return link
