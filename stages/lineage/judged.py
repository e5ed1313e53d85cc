"""Check a bundle's verdict: what was measured, the thresholds that were applied, and the run of the gate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.core import artifact, params
from stages.core.errors import ConfigError
from stages.lineage import lock, signing
from stages.lineage.bundle import ATTESTATION, LINEAGE, statement_path, subjects
from stages.lineage.chain import Ground, unlocked
from stages.lineage.findings import Finding, Link
from stages.lineage.runs import MALFORMED, ran
from stages.lineage.sealed import signature
from stages.schema.gate import Gate
from stages.schema.layout import MEASURED, VERDICTS
from stages.schema.verdict import Entry

WARNING = "WARNING"


def link(bundle: Path, manifest: Mapping[str, Any], ground: Ground) -> Link:
    """Tie the verdict to the measurements it judged and to the gate's run; in a workspace to what the gate wrote.

    Args:
        bundle: its directory.
        manifest: the bundle's.
        ground: where to look.
    """
    path = bundle / "verdict.json"
    found = Link("verdict", below=[_gate(bundle, ground)])
    try:
        verdict = json.loads(path.read_bytes())
        measured, parents, facts = verdict["measured"], manifest["parents"], manifest["facts"]
        found.notes.append(f"{verdict['verdict']}, executed by {verdict['runtime'] or 'nothing'}")
        found.findings += [
            Finding(str(path), f"{role} {parents.get(role)}", f"{role} {measured.get(role)}")
            for role in MEASURED
            if parents.get(role) != measured.get(role)
        ]
        found.findings += [
            Finding(str(path), f"{name} as in {artifact.MANIFEST}", "another")
            for name in sorted(facts.keys() - {"variant"})
            if facts[name] != verdict.get(name)
        ]
        _agree(bundle, verdict, ground, found)
    except (OSError, *MALFORMED) as error:
        found.findings.append(Finding(str(path), "a verdict", repr(error)))
    return found


def _agree(bundle: Path, verdict: Entry, ground: Ground, found: Link) -> None:
    """Compare the verdict with the gate's own, and its thresholds with those that DVC recorded of the gate's run."""
    gate = ground.build / VERDICTS if ground.build else None
    if gate is None or not gate.is_file():
        found.unfollowed.append(f"the gate's {VERDICTS} is not here")
        return
    own = {key: value for key, value in verdict.items() if key != WARNING}
    judged = artifact.read_json(gate)["variants"].get(bundle.name)
    if judged is None or judged["measured"] != verdict["measured"]:
        found.unfollowed.append(f"{gate} judged another build")
        return
    if judged != own:
        found.findings.append(Finding(str(bundle / "verdict.json"), f"the entry in {gate}", "another verdict"))
    asked = lock.settings("gate").get("gate") if ground.locked else None
    if asked is None or "thresholds" not in verdict:
        why = "no dvc.lock has the gate's run" if asked is None else "the verdict was given before verdicts named them"
        found.unfollowed.append(f"the thresholds were not compared: {why}")
        return
    try:
        wanted = params.parse(Gate, asked, f"{lock.LOCK}: gate").applied(verdict["precision"])
    except (ConfigError, KeyError) as error:
        found.unfollowed.append(f"the thresholds were not compared: {error}")
        return
    if wanted != verdict["thresholds"]:
        where = str(bundle / "verdict.json")
        found.findings.append(Finding(where, f"the thresholds that {lock.LOCK} has of the gate's run", "others"))


def _gate(bundle: Path, ground: Ground) -> Link:
    """Follow the gate's run: its statement in the bundle, and in a workspace the verdicts that it is about."""
    path = bundle / LINEAGE / "verdicts" / ATTESTATION
    found = Link("gate")
    try:
        statement, envelope = signing.open_sealed(path.read_bytes())
        found.findings += signature(envelope, str(path), ground.public)[1]
        found.digest = subjects(statement)[f"build/{VERDICTS}"]
        ran(found, ground, statement, "judged")
    except (OSError, *MALFORMED) as error:
        found.findings.append(Finding(str(path), "the gate's statement", repr(error)))
        return found
    here = ground.build / VERDICTS if ground.build else None
    if ground.build and here and here.is_file():
        if found.digest == artifact.sha256(here):
            found.directory = here
            found.findings += unlocked(ground, here, statement_path(ground.build, here))
        else:
            found.unfollowed.append(f"{here} is of another run of the gate")
    return found
