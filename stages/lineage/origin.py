"""Check that what a bundle ships is what its chain made: each file against the manifest it came from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.core import artifact
from stages.lineage import judged
from stages.lineage.bundle import LINEAGE
from stages.lineage.chain import Ground, descend, read_manifest
from stages.lineage.findings import Finding, Link

# What a bundle's chain begins with; everything else that it names must be reached from here.
NEAREST = ("artifact", "parity", "benchmark")


def link(bundle: Path, manifest: Mapping[str, Any], ground: Ground) -> list[Link]:
    """Return the links below a bundle: its verdict, then everything it was made from."""
    parents: dict[str, str] = manifest["parents"]
    below = [judged.link(bundle, manifest, ground)]
    below += descend(ground, {role: sha for role, sha in parents.items() if role in NEAREST})
    for stray in descend(ground, {role: sha for role, sha in parents.items() if role not in NEAREST}):
        if not stray.again:
            named = f"the {stray.name} that its artifact was made from"
            stray.findings.append(Finding(str(bundle / artifact.MANIFEST), named, f"{stray.digest}, which it was not"))
            below.append(stray)
    return below


def misplaced(bundle: Path, manifest: Mapping[str, Any]) -> list[Finding]:
    """Name shipped files that are not those of the artifact, its tokenizer or its data."""
    shipped = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    made = {role: _files(bundle, role) for role in ("artifact", "compressed", "data")}
    expected = dict(made["artifact"])
    expected |= {name: made["compressed"].get(name.removeprefix("tokenizer/"), "nothing") for name in shipped
                 if name.startswith("tokenizer/")}  # fmt: skip
    expected |= {name: sha for name, sha in made["data"].items() if name in shipped}
    return [
        Finding(str(bundle / name), f"{sha} (as its stage wrote it)", shipped.get(name, "nothing"))
        for name, sha in sorted(expected.items())
        if shipped.get(name) != sha
    ]


def _files(bundle: Path, role: str) -> dict[str, str]:
    path = bundle / LINEAGE / role / artifact.MANIFEST
    found = read_manifest(path).get("files", {}) if path.is_file() else {}
    return {name: entry["sha256"] for name, entry in found.items()}
