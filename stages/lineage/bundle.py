"""What a bundle carries of its chain, and how it is closed.

    lineage/ROLE/manifest.json      of every stage output behind the artifact, from its parity to the data
    lineage/ROLE/attestation.json   the statement of the run that made it
    manifest.json                   sha256 of everything above and of what ships
    attestation.json                the bundle's own statement, over manifest.json and all files
    model.sig                       OpenSSF model signature, where `model_signing` is installed and the key is ECDSA
    SHA256SUMS                      of everything above, for `sha256sum --check`

Attestations are DSSE envelopes, signed or visibly not. SHA256SUMS follows from the other files, so no byte of a bundle
is left that nothing vouches for.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.core import artifact, attest
from stages.core.errors import ArtifactError, first_line
from stages.lineage import signing

LINEAGE = "lineage"
ATTESTATION = "attestation.json"
MODEL_SIGNATURE = "model.sig"
SUMS = "SHA256SUMS"
BUILD_TYPE = "urn:tinsmith:release:1"
OPENSSF = "model_signing"


def statement_path(build: Path, output: Path) -> Path:
    """Return where the statement of a stage output lies: `build/artifact/V` → `build/statements/artifact/V.json`."""
    return build / "statements" / output.relative_to(build).parent / f"{output.stem}.json"


def carry(out: Path, build: Path, places: Mapping[str, Path], signer: Any | None) -> None:
    """Copy manifest and statement of every stage output in the chain into a bundle.

    Args:
        out: the bundle's `lineage/`.
        build: directory of all stage outputs.
        places: role → stage output, a directory or a file.
        signer: what signs the statements, None to leave them unsigned.

    Raises:
        ArtifactError: a statement is missing, or about other bytes than those that lie there.
    """
    for role, place in places.items():
        (out / role).mkdir(parents=True)
        if place.is_dir():
            shutil.copy2(place / artifact.MANIFEST, out / role / artifact.MANIFEST)
        path = statement_path(build, place)
        if not path.is_file():
            raise ArtifactError(
                f"no statement says which code made '{place}': there is no '{path}'", next_step="run `dvc repro`"
            )
        statement = artifact.read_json(path)
        named = place / artifact.MANIFEST if place.is_dir() else place
        if artifact.sha256(named) not in subjects(statement).values():
            raise ArtifactError(
                f"'{path}' is about another '{place}' than lies there",
                next_step=f"delete '{path}', then run `dvc repro`",
            )
        (out / role / ATTESTATION).write_bytes(signing.seal(statement, signer))


def close(out: Path, key: Path | None, signer: Any | None) -> None:
    """Write the bundle's attestation, its OpenSSF signature if it gets one, and the sums."""
    (out / ATTESTATION).write_bytes(signing.seal(statement_of(out), signer))
    if key and signer and shutil.which(OPENSSF) and signer.public_key.keytype == "ecdsa":
        _sign_model(out, key)
    (out / SUMS).write_text(
        sums({name: artifact.sha256(out / name) for name in files(out) if name != SUMS}), encoding="utf-8"
    )


def statement_of(bundle: Path) -> dict[str, Any]:
    """Return the bundle's own statement: no clock, so that the same chain gives the same bytes."""
    manifest = artifact.manifest(bundle)
    listed = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    listed[artifact.MANIFEST] = artifact.digest(bundle)
    return {
        "_type": attest.STATEMENT_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"facts": manifest["facts"], "parameters": manifest["params"]},
                "resolvedDependencies": [
                    {"digest": {"sha256": sha}, "name": role} for role, sha in sorted(manifest["parents"].items())
                ],
            },
            "runDetails": {"builder": {"id": "urn:tinsmith:dvc-stage"}},
        },
        "predicateType": attest.PREDICATE_TYPE,
        "subject": [{"digest": {"sha256": sha}, "name": name} for name, sha in sorted(listed.items())],
    }


def subjects(statement: Mapping[str, Any]) -> dict[str, str]:
    """Return name → sha256 of what a statement is about."""
    return {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}


def files(directory: Path) -> list[str]:
    """Return the names of all files below a directory, links and whatever else is no directory included."""
    found = (item for item in directory.rglob("*") if item.is_symlink() or not item.is_dir())
    return sorted(item.relative_to(directory).as_posix() for item in found)


def sums(digests: Mapping[str, str]) -> str:
    """Write digests as `sha256sum` does."""
    return "".join(f"{sha}  {name}\n" for name, sha in sorted(digests.items()))


def _sign_model(out: Path, key: Path) -> None:
    """Sign for whoever checks models with OpenSSF's tool; it lives in an environment of its own."""
    command = [OPENSSF, "sign", "key", str(out), "--private_key", str(key), "--signature", str(out / MODEL_SIGNATURE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ArtifactError(f"`{OPENSSF}` cannot sign '{out}': {first_line(RuntimeError(done.stderr))}")
