"""Put everything but the artifact and its lineage into a bundle."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.bundling import card, derived, limits, probe, tokenization
from stages.bundling.source import Source, to_compare
from stages.core import artifact, splits
from stages.core.errors import ArtifactError
from stages.schema.release import Release
from stages.schema.variant import Precision, Variant
from stages.schema.verdict import Entry
from stages.targets.base import read_signature

SAMPLES = Path(__file__).with_name("samples")
SAMPLES_OF = {
    "coreml": ("Classify.swift",),
    "hf": ("classify.mjs", "classify.html"),
    "litert": ("classify_litert.py",),
    "litert_task": ("classify_litert.html", "Classify.kt"),
    "onnx": ("classify_onnx.py",),
}
"""Form → programs that load it."""
CONFIGURED = {"hf": "hf", "coreml": "coreml/tokenizer"}
"""Form → where the checkpoint's configuration and tokenizer lie beside it, as clients read them."""
NOT_ASKED = "not among release.forms"


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
    forms, left_out = _forms(source, bundle, settings)
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
    for name in (name for form in forms for name in SAMPLES_OF.get(form, ())):
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


def _forms(source: Source, bundle: Path, settings: Release) -> tuple[dict[str, Any], dict[str, str]]:
    """Write the forms of the variant's target.

    Returns:
        Form → where it lies and what else a client must be told; form → why it was left out.
    """
    match source.target:
        case "onnx-cpu":
            return _onnx(source, bundle, settings)
        case "tflite-nnapi":
            return _litert(source, bundle, settings)
    return _coreml(source, bundle, settings)


def _onnx(source: Source, bundle: Path, settings: Release) -> tuple[dict[str, Any], dict[str, str]]:
    from stages.bundling import hugging_face, ort_form, text_form
    from stages.targets.onnx_cpu.graph import MODEL

    forms: dict[str, Any] = {"onnx": {"path": MODEL}}
    left_out = {name: NOT_ASKED for name in ("hf", "ort", "text") if name not in settings.forms}
    if "hf" in settings.forms:
        forms["hf"] = hugging_face.write(source, bundle)
    if "ort" in settings.forms:
        reason = ort_form.why_not(source.precision)
        if reason:
            left_out["ort"] = reason
        else:
            forms["ort"] = ort_form.write(source, bundle)
    if "text" in settings.forms:
        reason = source.tokenization.why_not_bert()
        if reason:
            left_out["text"] = reason
        else:
            forms["text"] = {"path": text_form.write(source, bundle)}
    return forms, left_out


def _litert(source: Source, bundle: Path, settings: Release) -> tuple[dict[str, Any], dict[str, str]]:
    from stages.bundling import litert
    from stages.targets.tflite_nnapi.flatbuffer import MODEL

    if "litert" not in settings.forms:
        return {"litert": {"path": MODEL}}, {"litert_task": NOT_ASKED}
    forms = {"litert": {"path": litert.write_model(source, bundle)}}
    reason = source.tokenization.why_not_bert()
    if reason:
        return forms, {"litert_task": reason}
    return {**forms, "litert_task": {"path": litert.write_task(source, bundle)}}, {}


def _coreml(source: Source, bundle: Path, settings: Release) -> tuple[dict[str, Any], dict[str, str]]:
    from stages.bundling import core_ml

    forms = {"mlpackage": {"path": core_ml.SOURCE_PACKAGE}}
    if "coreml" not in settings.forms:
        return forms, {"coreml": NOT_ASKED}
    return {**forms, "coreml": {"path": core_ml.write(source, bundle), "tokenizer": core_ml.TOKENIZER}}, {}
