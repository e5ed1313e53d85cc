"""Measure an artifact of any target against its reference, its checkpoint and the model it was quantised from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from stages.core import artifact
from stages.core.errors import ArtifactError, InputError
from stages.measure import identity, invariance, metrics, top_logits
from stages.measure.items import Record
from stages.measure.matching import match
from stages.measure.structure import Grids, misfits
from stages.measure.top_logits import Logits
from stages.models.families import family_of
from stages.schema.measured import Activations, Calibration, Forms, Parity, Part, SplitName
from stages.targets import conversion, own_grid, registry
from stages.targets.base import Session, read_signature
from stages.targets.facts import executor
from stages.targets.stored import QUANTIZATION, WORST, compare_structure, compare_weights
from stages.tasks import registry as tasks
from stages.tasks.base import GREEDY, INPUTS, MASK, Arrays, utterances
from stages.tasks.registry import Exercise, Quality

SPLITS: tuple[SplitName, ...] = ("probe", "test", "coverage")


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


def evaluate(exercise: Exercise, session: Session, split: Arrays, name: str) -> Iterator[NDArray[np.float32]]:
    """Run the artifact over a split, as an app would.

    Args:
        exercise: how its task asks.
        session: the opened artifact.
        split: the reference's inputs and logits.
        name: for the progress bar.

    Yields:
        Of each text the logits of its items, fp32 [items, classes].

    Raises:
        ArtifactError: the artifact fails while it runs, or answers in another shape than the reference.
    """
    items = np.bincount(exercise.case(split), minlength=len(split[MASK]))
    answered = tqdm(exercise.answer(session, split), desc=name, total=len(items), leave=False)
    for count, logits in zip(items.tolist(), answered, strict=True):
        wanted = (count, top_logits.width(split))
        if logits.shape != wanted:
            raise ArtifactError(f"the artifact answers {logits.shape} to a text", expected=f"{wanted} logits")
        yield logits


def _keeping(
    split: Arrays, answered: Iterable[NDArray[np.float32]], kept: list[NDArray[np.float32]]
) -> Iterator[NDArray[np.float32]]:
    """Put what is kept of each text's logits into a list, on their way."""
    start, classes = 0, split.get("classes")
    for logits in answered:
        rows = slice(start, start := start + len(logits))
        kept.append(top_logits.columns(logits, None if classes is None else classes[rows]))
        yield logits


def measure(split: Arrays, case: NDArray[np.int32], answered: Iterable[NDArray[np.float32]]) -> tuple[Part, Record]:
    """Compare answers with the reference's.

    Args:
        split: the reference's labels and logits.
        case: [items] the text that each belongs to.
        answered: the artifact's logits, text by text.

    Returns:
        `values`, 95 % `intervals`, `counts`, the items behind each, and `texts` where these are fewer; and what is
        kept of the answers.
    """
    compared = metrics.compare(split["logits"], answered, case, split["labels"], split.get("classes"))
    values, intervals = metrics.measure_parity(compared)
    counts = dict.fromkeys(values.keys() - {"n"}, len(case))
    return _counted({"values": values, "intervals": intervals, "counts": counts}, case), compared.record


def _counted(part: Part, case: NDArray[np.int32]) -> Part:
    """Say how many texts are behind a part's items, where a text has several: a gate asks for independent ones."""
    texts = len(np.unique(case))
    return {**part, "texts": dict.fromkeys(part["counts"], texts)} if texts < len(case) else part


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
    more = _counted(found, record.case[record.known])
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


def check_conversion(exercise: Exercise, session: Session, splits: Mapping[SplitName, Arrays], inputs: Inputs) -> Part:
    """Compare the converted model, which nothing has rounded yet, with the reference, and with itself in other forms.

    What quantisation hides in its own noise (an epsilon, a position, an activation function of another model) is in
    plain sight here.
    """
    shown = {name: split for name, split in splits.items() if name != "test"}
    parts = [
        measure(split, exercise.case(split), evaluate(exercise, session, split, f"converted {name}"))[0]
        for name, split in shown.items()
    ]
    forms = check_forms(exercise, session, splits["probe"], inputs.converted, inputs.checkpoint)["values"]
    worst = [part["values"].get("relative_max_error", np.inf) for part in parts]
    worst.append(forms.get("form_relative_error", np.inf))
    if session.batches:
        pad = read_signature(inputs.converted).tokens.filler
        worst.append(conversion.batch_error(exercise, session, splits["probe"], pad))
    counts = {"conversion_relative_max_error": sum(len(split["logits"]) for split in shown.values())}
    return {"counts": counts, "values": _finite({"conversion_relative_max_error": max(worst)})}


def check_forms(exercise: Exercise, session: Session, probe: Arrays, artifact_dir: Path, checkpoint: Path) -> Forms:
    """Ask the artifact the same texts padded, above other padding and in a batch."""
    signature, config = read_signature(artifact_dir), artifact.read_json(checkpoint / "config.json")
    padding = invariance.Padding(
        signature.sequence_lengths,
        token=signature.tokens.filler,
        vocabulary=int(config["vocab_size"]),
        reach=family_of(config).reach(config),
    )
    found = exercise.forms(session, probe, padding)
    return {
        "counts": {"form_relative_error": len(invariance.spread_over_lengths(probe))},
        "forms": _finite(found),
        "values": _finite({"form_relative_error": max(found.values())}),
    }


def check_calibration(artifact_dir: Path, reference: Path, splits: Mapping[SplitName, Arrays]) -> Calibration:
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
    judged = _ids(splits["probe"]) | _ids(splits["test"])
    values = {"calibration_overlap": len(seen & judged) / len(judged)}
    if "calibration_agreement" in found:
        values["calibration_agreement"] = found["calibration_agreement"]
    return {
        "counts": {"calibration_agreement": found["utterances"], "calibration_overlap": len(judged)},
        "foreign": found["sha256"] != artifact.sha256(path),
        "sha256": found["sha256"],
        "utterances": found["utterances"],
        "values": values,
    }


def _ids(split: Arrays) -> set[bytes]:
    return {inputs["input_ids"].tobytes() for inputs in utterances(split)}


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """Leave out what is no number, which JSON cannot hold: a gate that asks for it fails on the missing metric."""
    return {name: value for name, value in values.items() if np.isfinite(value)}


class Measured(NamedTuple):
    """What parity finds of an artifact.

    Attributes:
        found: what goes into `metrics.json`.
        probe: the logits of the probe split, in the reference's columns, None where it was not run.
        records: what is kept of the answers to each split, likewise empty.
    """

    found: Parity
    probe: NDArray[np.float32] | None
    records: Mapping[SplitName, Record]


def measure_artifact(target: str, artifact_dir: Path, inputs: Inputs, *, execute: bool = True) -> Measured:
    """Measure one artifact.

    Args:
        target: its platform.
        artifact_dir: where it lies.
        inputs: what it is measured against.
        execute: whether to run it as well; what is only read needs no runtime, and little time.
    """
    from safetensors.numpy import load_file

    splits: dict[SplitName, Arrays] = {name: artifact.read_arrays(inputs.reference / f"{name}.npz") for name in SPLITS}
    module, weights = registry.runtime(target), registry.weights(target)
    altered = artifact.problems(artifact_dir) + identity.broken_chain(artifact_dir, inputs.converted, inputs.checkpoint)
    result: Parity = {"altered": altered, "runtime": None}
    records = dict[SplitName, Record]()
    probe: NDArray[np.float32] | None = None
    reason = module.available() if execute else "it was read, and not run"
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
            partial(match, positions=splits["test"]["input_ids"].shape[1], first=first),
            own_grid.expected(target, artifact.read_json(artifact_dir / QUANTIZATION).get("asked")),
        )
        tensors = conversion.vocabulary_of(tensors)  # nothing else is asked for, and a model in memory is one less
        result["calibration"] = check_calibration(artifact_dir, inputs.reference, splits)
        if result["calibration"].get("foreign"):
            result["altered"].append(f"it was calibrated on other utterances than lie in '{inputs.reference}'")
        result["structure"], grids = compare_structure(target, inputs.converted, artifact_dir)
        if reason is None:
            conversion.check_vocabulary(target, inputs.converted, tensors, result["weights"])
            task = read_signature(inputs.converted).task
            exercise, converted = tasks.exercise(task), module.open_runtime(inputs.converted, threads=1)
            result["conversion"] = check_conversion(exercise, converted, splits, inputs)
            del converted
            if grids:
                result["activations"] = check_grids(target, inputs.converted, inputs.reference, grids)
            session = module.open_runtime(artifact_dir, threads=1)
            for name, split in splits.items():
                answered: Iterable[NDArray[np.float32]] = evaluate(
                    exercise, session, split, f"{artifact_dir.name} {name}"
                )
                kept: list[NDArray[np.float32]] = []
                if name == "probe":
                    answered = _keeping(split, answered, kept)
                result[name], records[name] = measure(split, exercise.case(split), answered)
                probe = np.concatenate(kept) if kept else probe
            result["form"] = check_forms(exercise, session, splits["probe"], artifact_dir, inputs.checkpoint)
            if (texts := inputs.reference / GREEDY).is_file():
                spread = float(splits["probe"]["logits"].std())
                result["greedy"] = exercise.greedy(session, artifact.read_arrays(texts), spread)
            result["saturation"] = module.saturation(artifact_dir, splits["probe"])
            teacher = top_logits.load(inputs.teacher)
            result["test"] = with_quality(tasks.quality(task), result["test"], splits["test"], records["test"], teacher)
            result |= {"runtime": session.label, "runtime_versions": module.versions(), "status": "measured"}
            result["numerics"] = executor(session.label, target).note
        else:
            result |= {"reason": reason, "status": "not_measured"}
    except (ArtifactError, InputError) as error:
        result |= {"reason": str(error), "status": "failed"}
    return Measured(result, probe, records)
