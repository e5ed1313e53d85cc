"""Bundle every variant that passed, and refuse the build when a required one did not.

Reads: verdicts, artifacts, parity outputs, references, the compressed checkpoints' tokenizers and labels; manifests and
    statements of every stage in the chain; dvc.lock.
Writes: one bundle per variant: artifact, tokenizer, labels, golden inputs and outputs, what clients take
    (stages/releasing), ML-BOM, `manifest.json`, its lineage, attestation and sums (stages/lineage/bundle.py).
Why: what ships carries the proof that it may; what may not ship is not there to be shipped by mistake.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stages.core import artifact, cli
from stages.core.errors import ArtifactError, ReleaseRefused
from stages.core.names import TEMPLATE
from stages.core.params import Section
from stages.lineage import bom, signing
from stages.lineage import lock as locked
from stages.lineage.bundle import LINEAGE, carry, close, statement_path
from stages.releasing import contents, golden
from stages.schema.layout import MEASURED, VERDICTS, behind, earlier, learnt_from
from stages.schema.release import Release
from stages.schema.signing import Signing
from stages.schema.variant import Precision, Variant
from stages.schema.verdict import Entry, read
from stages.targets.facts import NOT_RUN, executor

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "spiece.model",
    TEMPLATE,
)

# What ships, or what its golden outputs and verdict were taken from: rehashed before it does.
SHIPPED = ("artifact", "compressed", "parity", "reference")


class Params(Section):
    """The chosen variants, which of them are required, which may ship unmeasured, what goes along, and who signs."""

    variants: dict[str, Variant]
    precisions: dict[str, Precision]
    release: Release
    signing: Signing


class Signer(NamedTuple):
    """A private key's file, and what signs with it."""

    key: Path
    signs: Any


def may_ship(variant: Variant, verdict: str) -> bool:
    """Whether a bundle is made: a pass, or unmeasured where the variant's conf says so explicitly."""
    return verdict == "pass" or (verdict == "not_measured" and variant.release_not_measured)


def missing(variants: Mapping[str, Variant], verdicts: Mapping[str, Entry]) -> list[str]:
    """Name every required variant that may not ship, with the first reason."""
    return [
        f"'{key}' is {verdicts[key]['verdict']} ({(verdicts[key]['reasons'] or ['no reason'])[0]})"
        for key, variant in variants.items()
        if variant.required and not may_ship(variant, verdicts[key]["verdict"])
    ]


def places(key: str, variant: Variant, build: Path) -> dict[str, Path]:
    """Return role → stage output of everything behind a variant's bundle."""
    own = behind(build, key, variant.compression, variant.target)
    return {**own, **earlier(build, variant.compression), **learnt_from(build)}


def bundle(key: str, settings: Params, verdict: Entry, build: Path, out: Path, signer: Signer | None) -> None:
    """Write one bundle.

    Args:
        key: the variant.
        settings: of all variants.
        verdict: its entry in `verdicts.json`.
        build: directory of all stage outputs.
        out: the bundle's directory, created here.
        signer: who signs, None for nobody.

    Raises:
        ArtifactError: something that would ship is not what its stage wrote.
    """
    variant = settings.variants[key]
    sources = places(key, variant, build)
    for role in SHIPPED:
        artifact.require(sources[role])
    _check_measured(verdict, sources)
    facts = {name: verdict[name] for name in ("metrics", "reasons", "runtime", "verdict")} | _warning(verdict)
    facts["variant"] = key
    with artifact.writing(out, stage="release", parents=sources, params=variant, facts=facts) as temporary:
        shutil.copytree(
            sources["artifact"], temporary, dirs_exist_ok=True, ignore=shutil.ignore_patterns(artifact.MANIFEST)
        )
        (temporary / "tokenizer").mkdir()
        for name in TOKENIZER_FILES:
            if (sources["compressed"] / name).is_file():
                shutil.copy2(sources["compressed"] / name, temporary / "tokenizer" / name)
        golden.write(sources["artifact"], sources["reference"], sources["parity"], temporary)
        artifact.write_json(temporary / "verdict.json", {**verdict, **_warning(verdict)})
        precision = settings.precisions[variant.precision]
        contents.add(temporary, key, variant, precision, verdict, sources, settings.release)
        bom.write(temporary, key, verdict, sources)
        chain = {**sources, "verdicts": build / VERDICTS}
        carry(temporary / LINEAGE, build, chain, signer.signs if signer else None)
    close(out, *(signer or (None, None)))


def _check_measured(verdict: Entry, sources: Mapping[str, Path]) -> None:
    """Refuse a verdict on other measurements than those that lie here, and measurements of another artifact.

    Raises:
        ArtifactError: names which.
    """
    made = artifact.digest(sources["artifact"])
    for role in MEASURED:
        if artifact.manifest(sources[role])["parents"]["artifact"] != made:
            raise ArtifactError(
                f"'{sources['artifact']}' is not the artifact its verdict was measured on ({role})",
                next_step="run `dvc repro`",
            )
        if verdict["measured"].get(role) != artifact.digest(sources[role]):
            raise ArtifactError(
                f"the verdict on '{sources['artifact']}' judged another {role} than '{sources[role]}'",
                expected="a verdict on what was measured here",
                next_step="run `dvc repro`",
            )


def _warning(verdict: Entry) -> dict[str, str]:
    if absent := executor(verdict["runtime"]).instead_of:
        return {"WARNING": f"NOT RUN BY {absent.upper()}: {NOT_RUN}"}
    if verdict["verdict"] == "pass":
        return {}
    return {"WARNING": f"NOT MEASURED: nothing proves that this artifact computes anything: {verdict['reasons'][0]}"}


def check_lock(lock: Path, paths: Iterable[Path]) -> None:
    """Refuse to ship what DVC did not record: an output edited together with its manifest and statement, say.

    Raises:
        ArtifactError: names the output, and what the lock says of it.
    """
    for path, expected, found in locked.differences(locked.outputs(lock), paths):
        raise ArtifactError(
            f"'{path}' has md5 {found}, '{lock}' says {expected}", next_step=f"delete '{path}', then run `dvc repro`"
        )


def run(settings: Params, build: Path, verdicts: Path, lock: Path, out: Path) -> None:
    """Write the bundles that may ship, then refuse the build if a required variant is not among them.

    Raises:
        ArtifactError: something that would ship is not what its stage wrote, or not what DVC recorded.
        KeyRefused: bundles are to be signed, and the key is not there or not usable.
        ReleaseRefused: names each required variant without a passing verdict.
    """
    check_lock(lock, [verdicts])
    judged = read(verdicts)
    for key in settings.variants:
        if key not in judged:
            raise ArtifactError(f"'{verdicts}' has no verdict on variant '{key}'", next_step="run `dvc repro`")
    shipped = {key: item for key, item in settings.variants.items() if may_ship(item, judged[key]["verdict"])}
    outputs = {path for key, item in shipped.items() for path in places(key, item, build).values()}
    statements = (statement_path(build, path) for path in (*sorted(outputs), verdicts))
    check_lock(lock, [*sorted(outputs), *(path for path in statements if path.is_file())])
    public = settings.signing.public_key
    signer = Signer(*signing.load(public)) if public else None
    with artifact.writing(out, stage="release", parents={"verdicts": verdicts}, params=settings) as temporary:
        for key in shipped:
            bundle(key, settings, judged[key], build, temporary / key, signer)
    refused = missing(settings.variants, judged)
    if refused:
        raise ReleaseRefused(
            f"{len(refused)} required variant(s) may not ship: {'; '.join(refused)}",
            next_step=f"read '{verdicts}' and build/report/index.html",
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.stage(__doc__, argv, run, Params, "build", "verdicts", "lock", "out")


if __name__ == "__main__":
    sys.exit(main())
