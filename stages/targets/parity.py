"""Measure an artifact of any target against its reference, its checkpoint and the model it was quantised from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact
from stages.core.errors import ArtifactError, InputError
from stages.measure import identity, metrics, top_logits
from stages.measure.items import Record
from stages.measure.matching import match
from stages.measure.structure import Grids, misfits
from stages.measure.top_logits import Logits
from stages.models.families import family_of
from stages.schema.asked import Asked
from stages.schema.measured import Activations, Calibration, Parity, Part, SplitName
from stages.targets import conversion, own_grid, registry
from stages.targets.answers import Ask, counted, finite
from stages.targets.base import read_signature
from stages.targets.facts import executor
from stages.targets.stored import QUANTIZATION, WORST, compare_structure, compare_weights
from stages.tasks import registry as tasks
from stages.tasks.base import GREEDY, IDS, INPUTS, Arrays, utterances
from stages.tasks.registry import Quality

SPLITS: tuple[SplitName, ...] = ("probe", "test", "coverage")
JUDGED: tuple[SplitName, ...] = ("probe", "test")
"""What users might write; calibration should be on other texts."""


@dataclass(frozen=True)
class Inputs:
    """Where what an artifact is measured against lies.

    Attributes:
        converted: output of `convert` that the artifact was quantised from.
        checkpoint: output of `compress` that was converted.
        reference: output of `reference` on that checkpoint.
        teacher: output of `teacher`.
        data: output of `prepare`.
    """

    converted: Path
    checkpoint: Path
    reference: Path
    teacher: Path
    data: Path


def with_quality(quality: Quality, part: Part, test: Arrays, record: Record, teacher: Logits) -> Part:
    """Add to what was measured of the test split how good the answers are, beside the reference's and the teacher's.

    Args:
        quality: of the task.
        part: as `measure` found it.
        test: the reference's labels and logits.
        record: what the artifact answered.
        teacher: the teacher's logits of the items.

    Returns:
        The same where an output is not finite, so that a gate that asks for quality fails on the missing metric.
    """
    if not record.finite.all():
        return part
    reference, given = (metrics.kept_answers(one, record.wanted) for one in (top_logits.of(test), teacher))
    found = quality.measure(record.case, record.wanted, record.answers, reference, given)
    more = counted(found, record.case[record.known])
    texts = {**part.get("texts", {}), **more.get("texts", {})}
    merged: Part = {
        "counts": {**part["counts"], **more["counts"]},
        "intervals": {**part["intervals"], **more["intervals"]},
        "values": {**part["values"], **more["values"]},
    }
    return {**merged, "texts": texts} if texts else merged


def check_grids(target: str, converted: Path, reference: Path, grids: Grids) -> Activations:
    """Compare the integers of activations with what the converted model computes over the calibration split.

    Returns:
        `values` and `counts`, and the first activations that their integers do not fit.
    """
    calibration, signature = artifact.read_arrays(reference / "calibration.npz"), read_signature(converted)
    module = registry.intermediates(target)
    seen, possible = dict[str, tuple[float, float]](), dict[str, tuple[float, float]]()
    for row, size in enumerate(calibration["attention_mask"].sum(axis=1)):
        lengths = [size] if signature.dynamic else [one for one in signature.sequence_lengths if one >= size]
        for length in lengths:
            inputs = {name: np.ascontiguousarray(calibration[name][row : row + 1, :length]) for name in INPUTS}
            for _, name, value in module.intermediates(converted, inputs):
                if name in grids:
                    _widen(possible, name, value)
                    if length == lengths[0]:
                        _widen(seen, name, value)
    found = misfits(grids, seen, possible)
    counts = {"activations_beyond_count": len(possible)}
    return {"counts": counts, "misfits": found[:WORST], "values": {"activations_beyond_count": len(found)}}


def _widen(ranges: dict[str, tuple[float, float]], name: str, value: NDArray[np.float32]) -> None:
    low, high = ranges.get(name, (np.inf, -np.inf))
    ranges[name] = min(low, float(value.min())), max(high, float(value.max()))


def check_conversion(ask: Ask, converted: Path, asked: Asked) -> Part:
    """Compare the converted model, which nothing has rounded yet, with the reference, and with itself in other forms.

    What quantisation hides in its own noise (an epsilon, a position, an activation function of another model) is in
    plain sight here.

    Args:
        ask: asks it.
        converted: output of `convert`.
        asked: what the artifact is asked, of which the test split is left out and another batch added.
    """
    shown = [name for name in asked.splits if name != "test"]
    more = {"splits": shown, "keep": [], "together": True, "greedy": False, "saturation": False}
    compared = ask(converted, asked.model_copy(update=more)).compared
    parts = [compared["splits"][name] for name in shown]
    worst = [part["values"].get("relative_max_error", np.inf) for part in parts]
    worst.append(compared["form"]["values"].get("form_relative_error", np.inf))
    if "together" in compared:
        worst.append(compared["together"].get("relative_max_error", np.inf))
    counts = {"conversion_relative_max_error": sum(part["values"]["n"] for part in parts)}
    return {"counts": counts, "values": finite({"conversion_relative_max_error": max(worst)})}


def check_calibration(artifact_dir: Path, reference: Path, judged: Mapping[SplitName, Arrays]) -> Calibration:
    """Say what an artifact was calibrated on, how much hangs on it, and whether it was also judged on it.

    Returns:
        Empty for precisions without calibration; else `sha256` and `utterances` of the calibration inputs, `values` and
        `counts`, and `foreign` where they are not those that lie in `reference` now.
    """
    found = artifact.read_json(artifact_dir / QUANTIZATION).get("calibration")
    if found is None:
        return {}
    path = reference / "calibration.npz"
    seen = _ids(artifact.read_arrays(path))
    others = {ids for texts in judged.values() for ids in _ids(texts)}
    values = {"calibration_overlap": len(seen & others) / len(others)}
    if "calibration_agreement" in found:
        values["calibration_agreement"] = found["calibration_agreement"]
    return {
        "counts": {"calibration_agreement": found["utterances"], "calibration_overlap": len(others)},
        "foreign": found["sha256"] != artifact.sha256(path),
        "sha256": found["sha256"],
        "utterances": found["utterances"],
        "values": values,
    }


def _texts(path: Path) -> Arrays:
    """Read what a split asks: its logits would only lie in memory."""
    split = artifact.read_arrays(path)
    return {name: split[name] for name in INPUTS}


def _ids(split: Arrays) -> set[bytes]:
    return {inputs["input_ids"].tobytes() for inputs in utterances(split)}


class Measured(NamedTuple):
    """What parity finds of an artifact.

    Attributes:
        found: what goes into `metrics.json`.
        probe: the logits of the probe split, in the reference's columns, None where it was not run.
        records: what is kept of the answers to each split, likewise empty.
    """

    found: Parity
    probe: NDArray[np.float32] | None
    records: Mapping[str, Record]


def measure_artifact(target: str, artifact_dir: Path, inputs: Inputs, ask: Ask | str) -> Measured:
    """Measure one artifact.

    Args:
        target: its platform.
        artifact_dir: where it lies.
        inputs: what it is measured against.
        ask: asks it where it runs, or why it is not run: what is only read needs no runtime, and little time.
    """
    from safetensors.numpy import load_file

    texts = {name: _texts(inputs.reference / f"{name}.npz") for name in JUDGED}
    weights = registry.weights(target)
    altered = artifact.problems(artifact_dir) + identity.broken_chain(artifact_dir, inputs.converted, inputs.checkpoint)
    result: Parity = {"altered": altered, "runtime": None}
    try:
        result["altered"] += identity.foreign_interface(
            inputs.checkpoint, inputs.teacher, inputs.converted, inputs.reference, inputs.data
        )
        tensors = load_file(inputs.checkpoint / "model.safetensors")
        config = artifact.read_json(inputs.checkpoint / "config.json")
        first = family_of(config).first_row(config)
        result["weights"] = compare_weights(
            tensors,
            partial(weights.weights, inputs.converted),
            partial(weights.weights, artifact_dir),
            partial(match, positions=texts["test"][IDS].shape[1], first=first),
            own_grid.expected(target, artifact.read_json(artifact_dir / QUANTIZATION).get("asked")),
        )
        tensors = conversion.vocabulary_of(tensors)  # nothing else is asked for, and a model in memory is one less
        result["calibration"] = check_calibration(artifact_dir, inputs.reference, texts)
        if result["calibration"].get("foreign"):
            result["altered"].append(f"it was calibrated on other utterances than lie in '{inputs.reference}'")
        result["structure"], grids = compare_structure(target, inputs.converted, artifact_dir)
        if isinstance(ask, str):
            result |= {"reason": ask, "status": "not_measured"}
            return Measured(result, None, {})
        conversion.check_vocabulary(target, inputs.converted, tensors, result["weights"])
        asked = Asked(
            task=read_signature(inputs.converted).task,
            splits=list(SPLITS),
            keep=["probe"],
            vocabulary=int(config["vocab_size"]),
            reach=family_of(config).reach(config),
            together=False,
            greedy=(inputs.reference / GREEDY).is_file(),
            saturation=True,
        )
        result["conversion"] = check_conversion(ask, inputs.converted, asked)
        if grids:
            result["activations"] = check_grids(target, inputs.converted, inputs.reference, grids)
        given = ask(artifact_dir, asked)
        for name, part in given.compared["splits"].items():
            result[name] = part
        result["form"], result["saturation"] = given.compared["form"], given.compared["saturation"]
        if "greedy" in given.compared:
            result["greedy"] = given.compared["greedy"]
        quality, test = tasks.quality(asked.task), artifact.read_arrays(inputs.reference / "test.npz")
        teacher = top_logits.load(inputs.teacher)
        result["test"] = with_quality(quality, result["test"], test, given.records["test"], teacher)
        result |= {"runtime": given.runtime, "runtime_versions": given.versions, "status": "measured"}
        result["numerics"] = executor(given.runtime, target).note
        return Measured(result, given.logits["probe"], given.records)
    except (ArtifactError, InputError) as error:
        result |= {"reason": str(error), "status": "failed"}
        return Measured(result, None, {})
