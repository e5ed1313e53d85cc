"""Bundle every variant that passed, and refuse the build when a required one did not.

Reads: verdicts, artifacts, parity outputs, references, the compressed checkpoints' tokenizers and labels.
Writes: one bundle per variant: artifact, tokenizer, labels, golden inputs and outputs, `manifest.json`.
Why: what ships carries the proof that it may; what may not ship is not there to be shipped by mistake.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.core import artifact, cli, params
from stages.core.errors import ArtifactError, ReleaseRefused
from stages.core.params import Section
from stages.schema.variant import Variant

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "spiece.model")

INTERPRETED = "reference-interpreted"


class Params(Section):
    """The chosen variants, which of them are required, and which may ship unmeasured."""

    variants: dict[str, Variant]


def may_ship(variant: Variant, verdict: str) -> bool:
    """Whether a bundle is made: a pass, or unmeasured where the variant's conf says so explicitly."""
    return verdict == "pass" or (verdict == "not_measured" and variant.release_not_measured)


def missing(variants: Mapping[str, Variant], verdicts: Mapping[str, Any]) -> list[str]:
    """Name every required variant that may not ship, with the first reason."""
    return [
        f"'{key}' is {verdicts[key]['verdict']} ({(verdicts[key]['reasons'] or ['no reason'])[0]})"
        for key, variant in variants.items()
        if variant.required and not may_ship(variant, verdicts[key]["verdict"])
    ]


def bundle(key: str, variant: Variant, verdict: Mapping[str, Any], build: Path, out: Path) -> None:
    """Write one bundle.

    Args:
        key: the variant.
        variant: its settings.
        verdict: its entry in `verdicts.json`.
        build: directory of all stage outputs.
        out: the bundle's directory, created here.

    Raises:
        ArtifactError: something that would ship is not what its stage wrote.
    """
    sources = {
        "artifact": build / "artifact" / key,
        "compressed": build / "compressed" / variant.compression,
        "parity": build / "parity" / key,
        "reference": build / "reference" / variant.compression,
    }
    for path in sources.values():
        artifact.require(path)
    if artifact.manifest(sources["parity"])["parents"]["artifact"] != artifact.digest(sources["artifact"]):
        raise ArtifactError(
            f"'{sources['artifact']}' is not the artifact its verdict was measured on", next_step="run `dvc repro`"
        )
    lineage = {
        "converted": build / "converted" / f"{variant.compression}-{variant.target}",
        "data": build / "data",
        "student": build / "student",
        "teacher": build / "teacher",
    }
    facts = {name: verdict[name] for name in ("metrics", "reasons", "runtime", "verdict")} | _warning(verdict)
    with artifact.writing(out, stage="release", parents=sources | lineage, params=variant, facts=facts) as temporary:
        shutil.copytree(
            sources["artifact"], temporary, dirs_exist_ok=True, ignore=shutil.ignore_patterns(artifact.MANIFEST)
        )
        (temporary / "tokenizer").mkdir()
        for name in TOKENIZER_FILES:
            if (sources["compressed"] / name).is_file():
                shutil.copy2(sources["compressed"] / name, temporary / "tokenizer" / name)
        shutil.copy2(build / "data" / "labels.json", temporary / "labels.json")
        _write_golden(sources["reference"], sources["parity"], temporary / "golden.npz")
        artifact.write_json(temporary / "verdict.json", {**verdict, **_warning(verdict)})


def _warning(verdict: Mapping[str, Any]) -> dict[str, str]:
    if verdict["runtime"] == INTERPRETED:
        return {"WARNING": "NOT RUN BY CORE ML: a reference executor interpreted the program; no latency is known"}
    if verdict["verdict"] == "pass":
        return {}
    return {"WARNING": f"NOT MEASURED: nothing proves that this artifact computes anything: {verdict['reasons'][0]}"}


def _write_golden(reference: Path, parity: Path, out: Path) -> None:
    """Probe inputs with the reference's and the artifact's logits, for a check on the device.

    Token ids only: no text leaves the build.
    """
    probe = artifact.read_arrays(reference / "probe.npz")
    outputs = artifact.read_arrays(parity / "outputs.npz")
    arrays = {name: probe[name] for name in ("input_ids", "attention_mask")}
    arrays["reference_logits"] = probe["logits"]
    if "probe" in outputs:
        arrays["artifact_logits"] = outputs["probe"]
    artifact.write_arrays(out, arrays)


def run(settings: Params, build: Path, verdicts: Path, out: Path) -> None:
    """Write the bundles that may ship, then refuse the build if a required variant is not among them.

    Raises:
        ReleaseRefused: names each required variant without a passing verdict.
    """
    judged = artifact.read_json(verdicts)["variants"]
    with artifact.writing(out, stage="release", parents={"verdicts": verdicts}, params=settings) as temporary:
        for key, variant in settings.variants.items():
            if may_ship(variant, judged[key]["verdict"]):
                bundle(key, variant, judged[key], build, temporary / key)
    refused = missing(settings.variants, judged)
    if refused:
        raise ReleaseRefused(
            f"{len(refused)} required variant(s) may not ship: {'; '.join(refused)}",
            next_step=f"read '{verdicts}' and build/report/index.html",
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = cli.parser(__doc__, "build", "verdicts", "out")
    return cli.execute(
        parser,
        argv,
        lambda arguments: run(
            params.load(Params, {"variants": "variants"}, arguments.params),
            arguments.build,
            arguments.verdicts,
            arguments.out,
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
