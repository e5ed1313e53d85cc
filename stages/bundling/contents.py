"""Put everything but the artifact and its lineage into a bundle."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.bundling import card, derived, limits, probe, tokenization
from stages.bundling.forms import forms as of_target
from stages.bundling.source import Source, to_compare
from stages.core import artifact, splits
from stages.core.errors import ArtifactError
from stages.schema.release import Release
from stages.schema.variant import Precision, Variant
from stages.schema.verdict import Entry
from stages.targets.base import read_signature

SAMPLES = Path(__file__).with_name("samples")


def add(
    bundle: Path,
    key: str,
    variant: Variant,
    precision: Precision,
    verdict: Entry,
    places: Mapping[str, Path],
    settings: Release,
) -> None:
    """Write forms, limits, probe, model card and samples into a bundle that has its artifact already.

    Args:
        bundle: its directory.
        key: the variant.
        variant: its settings.
        precision: those of its precision.
        verdict: its entry in `verdicts.json`.
        places: role → stage output of everything behind it.
        settings: which forms, and whether the probe goes along as text.

    Raises:
        ArtifactError: a form answers otherwise than the artifact, or the checkpoint's labels are not the data's.
        Unsupported: the clients of a form have no name for the precision.
    """
    source = open_source(key, variant.target, precision, places)
    forms, left_out = of_target(variant.target).write(source, bundle, settings)
    texts = splits.read_split(places["data"], "probe").texts if settings.golden == "text" else None
    probe.write(source, texts, bundle)
    describe(source, verdict, places, forms, left_out, bundle)
    if differs := derived.differences(bundle):
        raise ArtifactError(f"bundle '{key}': {differs[0]}", next_step="report this: it was written a moment ago")


def describe(
    source: Source,
    verdict: Entry,
    places: Mapping[str, Path],
    forms: Mapping[str, Any],
    left_out: Mapping[str, str],
    bundle: Path,
) -> None:
    """Write what follows from the chain without running anything, so that an audit can write it again.

    Args:
        source: the variant.
        verdict: its entry in `verdicts.json`.
        places: role → stage output of everything behind it.
        forms: form → where it lies and what else a client must be told.
        left_out: form → why the bundle does not have it.
        bundle: directory to write into.
    """
    forms = dict(sorted(forms.items()))  # as limits.json has them
    (bundle / "labels.txt").write_text(tokenization.lines(source.labels), encoding="utf-8")
    limits.write(source, forms, left_out, bundle)
    card.write(source, verdict, places, forms, bundle)
    known = of_target(source.target).FORMS
    for name in (name for form in forms for name in known[form].samples):
        (bundle / "samples").mkdir(exist_ok=True)
        shutil.copyfile(SAMPLES / name, bundle / "samples" / name)


def open_source(key: str, target: str, precision: Precision, places: Mapping[str, Path]) -> Source:
    """Read what a variant's bundle is made from.

    Args:
        key: the variant.
        target: its platform.
        precision: its settings.
        places: role → stage output of everything behind it.

    Raises:
        ArtifactError: the checkpoint's labels are not the data's, or a file cannot be read.
    """

    def read(name: str) -> dict[str, Any]:
        return artifact.read_arrays(places["reference"] / f"{name}.npz")

    signature = read_signature(places["artifact"])
    labels = artifact.read_json(places["data"] / "labels.json")
    config = artifact.read_json(places["compressed"] / "config.json")
    named = config.get("id2label", {})
    if [named.get(str(index)) for index in range(len(labels))] != labels or len(named) != len(labels):
        raise ArtifactError(
            f"'{places['compressed']}/config.json' names other labels than '{places['data']}/labels.json'",
            expected="the same labels in the same order",
            next_step="run `dvc repro`",
        )
    return Source(
        key=key,
        target=target,
        precision=precision,
        artifact=places["artifact"],
        signature=signature,
        labels=labels,
        config=config,
        tokenization=tokenization.read(places["compressed"], signature.sequence_lengths[-1]),
        probe=read("probe"),
        compared=to_compare({name: read(name) for name in ("probe", "coverage", "test")}),
    )
