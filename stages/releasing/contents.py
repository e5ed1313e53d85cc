"""Put everything but the artifact and its lineage into a bundle."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.core import artifact, splits
from stages.core.errors import ArtifactError
from stages.releasing import card, derived, limits, probe, tokenization
from stages.releasing.forms import of, of_task
from stages.releasing.source import Source, to_compare
from stages.schema.release import Release
from stages.schema.variant import Precision, Variant
from stages.schema.verdict import Entry
from stages.targets.base import read_signature


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
    forms, left_out = of(source).write(source, bundle, settings)
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
    own, known = of_task(source.task), of(source).FORMS
    for name in own.FROM_DATA:
        shutil.copyfile(places["data"] / name, bundle / name)
    for name, text in own.beside(source).items():
        (bundle / name).write_text(text, encoding="utf-8")
    limits.write(source, forms, left_out, bundle)
    card.write(source, verdict, places, forms, bundle)
    for name, text in (item for form in forms for item in known[form].files(source).items()):
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle / name).write_text(text, encoding="utf-8")
    for name in (name for form in forms for name in known[form].samples):
        (bundle / "samples").mkdir(exist_ok=True)
        shutil.copyfile(own.SAMPLES / name, bundle / "samples" / name)


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
    task, tokenizer = of_task(signature.task), tokenization.read(places["compressed"], signature.sequence_lengths[-1])
    return Source(
        key=key,
        target=target,
        precision=precision,
        artifact=places["artifact"],
        signature=signature,
        labels=task.labels(places),
        config=artifact.read_json(places["compressed"] / "config.json"),
        tokenization=tokenizer,
        probe=read("probe"),
        compared=to_compare({name: read(name) for name in ("probe", "coverage", "test")}),
        checkpoint=places["compressed"],
        reference=places["reference"],
        tokenizer_settings=task.tokenizer_settings(tokenizer),
    )
