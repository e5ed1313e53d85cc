"""Check a bundle against itself: every byte of it has a witness.

Payload and lineage have the manifest and SHA256SUMS; the manifest has the attestation and SHA256SUMS; the attestation
follows from the manifest and, where it is signed, from a key; SHA256SUMS follows from all of them. Where two witnesses
disagree with a third, the third is the one that changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.core import artifact
from stages.lineage import signing
from stages.lineage.bundle import ATTESTATION, MODEL_SIGNATURE, SUMS, files, statement_of, subjects, sums
from stages.lineage.findings import DIGEST, NOTHING, SHORT, Finding, Link, additions, content

LINE = re.compile(r"([0-9a-f]{64})  (.+)")
CLOSING = (ATTESTATION, MODEL_SIGNATURE, SUMS, artifact.MANIFEST)


def check(bundle: Path, public: str | None) -> tuple[Link, dict[str, Any]]:
    """Rehash a bundle and check its seal.

    Args:
        bundle: its directory.
        public: the key to trust, None where none is known.

    Returns:
        Its link, without anything below, and its manifest (empty where that is unreadable).
    """
    link = Link(f"bundle {bundle.name}", directory=bundle)
    found = {name: content(bundle / name) for name in files(bundle)}
    digests = {name: sha for name, sha in found.items() if DIGEST.fullmatch(sha)}
    try:
        manifest = json.loads((bundle / artifact.MANIFEST).read_bytes() if artifact.MANIFEST in digests else b"")
        listed = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        link.findings.append(Finding(str(bundle / artifact.MANIFEST), "a manifest", repr(error)))
        manifest, listed = {}, {}
    link.digest = digests.get(artifact.MANIFEST, "")
    sealed = _attestation(bundle, link, public) if manifest else {}
    if artifact.MANIFEST in sealed:
        listed[artifact.MANIFEST] = sealed[artifact.MANIFEST]
    _compare(bundle, link, found, listed, attested=bool(sealed))
    if manifest:
        _check_name(bundle, manifest, link)
    link.notes.append(f"{len(digests)} files, {sum((bundle / name).stat().st_size for name in digests) / 1e6:.1f} MB")
    if MODEL_SIGNATURE in digests:
        link.unfollowed.append(
            f"{MODEL_SIGNATURE}: check it with `model_signing verify key {bundle} --signature "
            f"{bundle / MODEL_SIGNATURE} --ignore-paths {bundle / SUMS} --public_key …`"
        )
    return link, manifest


def signature(envelope: Any, where: str, public: str | None) -> tuple[str, list[Finding], list[str]]:
    """Judge who signed an envelope.

    Returns:
        A note, what is wrong, and what could not be checked.
    """
    if not envelope["signatures"]:
        if public:
            return "UNSIGNED", [Finding(where, "a signature by the key in conf/signing", "none")], []
        return "UNSIGNED: proves only that it agrees with itself", [], []
    if not public:
        keys = ", ".join(str(entry.get("keyid"))[:SHORT] for entry in envelope["signatures"])
        return "", [], [f"signature by key {keys}: no public key to check it with (--key)"]
    wrong = signing.check(envelope, public)
    if wrong:
        return "", [Finding(where, "a signature by the trusted key", wrong)], []
    return f"signed by key {envelope['signatures'][0]['keyid'][:SHORT]}", [], []


def _attestation(bundle: Path, link: Link, public: str | None) -> dict[str, str]:
    """Check the bundle's own statement; what it vouches for comes back, empty when it vouches for nothing."""
    path = bundle / ATTESTATION
    try:
        statement, envelope = signing.open_sealed(path.read_bytes() if path.is_file() else b"")
        vouched = subjects(statement)
    except (OSError, ValueError, KeyError, TypeError) as error:
        link.findings.append(Finding(str(path), "the envelope that the release wrote", str(error)))
        return {}
    note, wrong, unknown = signature(envelope, str(path), public)
    link.notes += [note] if note else []
    link.findings += wrong
    link.unfollowed += unknown
    try:
        expected = statement_of(bundle)
    except (KeyError, TypeError, AttributeError):
        return vouched
    if statement != expected:
        changed = sorted(name for name, sha in subjects(expected).items() if vouched.get(name) != sha)
        where = path if vouched.get(artifact.MANIFEST) == artifact.digest(bundle) else bundle / artifact.MANIFEST
        said = f"another {changed[0]}" if changed else "other contents"
        link.findings.append(Finding(str(where), f"what {ATTESTATION} and {artifact.MANIFEST} agree on", said))
    return {} if wrong else vouched


def _check_name(bundle: Path, manifest: Mapping[str, Any], link: Link) -> None:
    """Hold a bundle's directory to the name that it was sealed under: a variant's bundle is no other's."""
    facts = manifest.get("facts")
    sealed = facts.get("variant") if isinstance(facts, dict) else None
    if artifact.is_link(bundle):
        link.findings.append(Finding(str(bundle), "a directory", "a link"))
    if sealed is None:
        link.unfollowed.append("its manifest does not name its variant: it was released before manifests did")
    elif bundle.name != sealed:
        link.findings.append(Finding(str(bundle), f"the bundle of {bundle.name}", f"that of {sealed}, by its manifest"))


def _compare(bundle: Path, link: Link, found: dict[str, str], listed: dict[str, str], *, attested: bool) -> None:
    """Name each file that is not what the witnesses say, and SHA256SUMS where it stands alone."""
    summed = {}
    text = ""
    if DIGEST.fullmatch(found.get(SUMS, "")):
        text = (bundle / SUMS).read_text(errors="replace", encoding="utf-8")
    for line in text.splitlines():
        match = LINE.fullmatch(line)
        if match:
            summed[match[2]] = match[1]
        else:
            link.findings.append(Finding(str(bundle / SUMS), "lines of sha256, two spaces, a name", repr(line[:80])))
    present = {name: sha for name, sha in found.items() if name != SUMS}
    named = {*CLOSING, *summed, *listed}
    link.findings += additions(bundle, {name: sha for name, sha in found.items() if name not in named}, named)
    strange = {name: what for name, what in found.items() if name in named and not DIGEST.fullmatch(what)}
    link.findings += [Finding(str(bundle / name), "a plain file", what) for name, what in strange.items()]
    for name in sorted(named - {SUMS, *strange}):
        is_, said, wanted = (where.get(name, NOTHING) for where in (present, summed, listed))
        vouched = is_ == wanted or (name == ATTESTATION and attested)
        if is_ != wanted and name not in CLOSING:
            link.findings.append(Finding(str(bundle / name), wanted, is_))
        elif is_ != said:
            culprit = bundle / SUMS if vouched else bundle / name
            what = f"{name} as " if vouched else ""
            pair = (is_, said) if vouched else (said, is_)
            link.findings.append(Finding(str(culprit), what + pair[0], what + pair[1]))
    if not link.findings and text != sums(present):
        link.findings.append(Finding(str(bundle / SUMS), "the sums of the files here", "another order or ending"))
