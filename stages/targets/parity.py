"""Measure an artifact of any target against its reference, its checkpoint and the model it was quantised from."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from stages.core import artifact
from stages.core.errors import ArtifactError, InputError
from stages.core.splits import UNKNOWN
from stages.measure import identity, invariance, metrics
from stages.measure.audit import Expected, Match, match
from stages.measure.structure import Grids, compare, misfits
from stages.models.families import family_of
from stages.targets import conversion, own_grid, registry
from stages.targets.base import SIGNATURE, Session, read_signature, utterances
from stages.targets.facts import executor
from stages.tasks.base import FORWARD, INPUTS

Arrays = Mapping[str, NDArray[Any]]
QUANTIZATION = "quantization.json"
WORST = 5
"""Weights and differences listed by name."""
SPLITS = ("probe", "test", "coverage")


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


def evaluate(session: Session, split: Arrays, name: str) -> NDArray[np.float32]:
    """Run the artifact over a split, one utterance at a time at its true length, as an app would.

    Args:
        session: the opened artifact.
        split: `input_ids` and `attention_mask`, int32 [n, max_length], right-padded.
        name: for the progress bar.

    Returns:
        Logits, fp32 [n, labels].

    Raises:
        ArtifactError: the artifact fails while it runs, or answers in another shape than the reference.
    """
    asked = tqdm(utterances(split), desc=name, total=len(split["attention_mask"]), leave=False)
    rows = [session.run(FORWARD, inputs)["logits"] for inputs in asked]
    outputs = np.concatenate(rows)
    if outputs.shape != split["logits"].shape:
        raise ArtifactError(f"the artifact answers {outputs.shape}", expected=f"{split['logits'].shape} logits")
    return outputs


def measure(splits: Mapping[str, Arrays], teacher: NDArray[np.float32], outputs: Arrays) -> dict[str, Any]:
    """Compare outputs with the reference on every split, and with the labels on the test split.

    Args:
        splits: the reference's inputs, labels and logits by split.
        teacher: the teacher's test logits, fp32 [n, labels].
        outputs: the artifact's logits by split.

    Returns:
        By split `values`, 95 % `intervals`, and `counts`, the texts behind each. Quality is left out when an output is
        not finite, so a gate that asks for it fails on the missing metric.
    """
    measured: dict[str, Any] = {}
    for name, split in splits.items():
        values, intervals = metrics.measure_parity(reference=split["logits"], outputs=outputs[name])
        counts = dict.fromkeys(values.keys() - {"n"}, len(split["logits"]))
        measured[name] = {"values": values, "intervals": intervals, "counts": counts}
    test = splits["test"]
    if measured["test"]["values"]["non_finite_count"] == 0:
        values, intervals = metrics.measure_quality(
            labels=test["labels"], outputs=outputs["test"], reference=test["logits"], teacher=teacher
        )
        measured["test"]["values"].update(values)
        measured["test"]["intervals"].update(intervals)
        measured["test"]["counts"].update(dict.fromkeys(values, int((test["labels"] != UNKNOWN).sum())))
    return measured


def audit(
    checkpoint: Arrays,
    converted: Callable[[], Arrays],
    stored: Callable[[], Arrays],
    matching: Callable[..., dict[str, Match]],
    expected: Expected | None,
) -> dict[str, Any]:
    """Compare weights with the checkpoint's; no runtime takes part.

    Args:
        checkpoint: tensors by name.
        converted: gives weights of the converted model, fp32, which must still be the checkpoint's own.
        stored: gives weights of the artifact, fp32, maybe rounded, when the others are gone: one model in memory.
        matching: `measure.audit.match` for the family's position table.
        expected: what rounding may cost; None where the artifact is in floats.

    Returns:
        `values`; `counts`, the matrices that were compared; `weights`: cosine of the worst ones by name; `converted`:
        the matrix that conversion changed most; `rounded`: the one furthest beyond what its own grid explains.
    """
    errors = {name: found.error for name, found in matching(checkpoint, converted()).items()}
    found = matching(checkpoint, stored(), expected=expected)
    cosines = {name: one.cosine for name, one in found.items()}
    worst = sorted(cosines, key=lambda name: (cosines[name], name))[:WORST]
    result: dict[str, Any] = {
        "converted": max(sorted(errors), key=lambda name: errors[name]),
        "counts": {"conversion_weight_error_max": len(errors), "weight_cosine_min": len(cosines)},
        "values": {"conversion_weight_error_max": max(errors.values()), "weight_cosine_min": cosines[worst[0]]},
        "weights": {name: cosines[name] for name in worst},
    }
    if expected is not None:
        result["rounded"] = max(sorted(found), key=lambda name: found[name].excess)
        result["values"]["weight_error_ratio_max"] = found[result["rounded"]].excess
        result["counts"]["weight_error_ratio_max"] = len(found)
    return result


def compare_structure(target: str, converted: Path, artifact_dir: Path) -> tuple[dict[str, Any], Grids]:
    """Hold the artifact to the converted model, operator by operator and weight by weight, and nothing beside them.

    Returns:
        `values` and `counts`, the first `differences`, what nobody reads among them, `beyond`: weights with elements
        that rounding cannot explain; and the grids that activations are rounded to.
    """
    reader, whole = registry.structure(target), registry.whole(target)
    found = compare(reader.read(converted), reader.read(artifact_dir))
    strays = unaccounted(whole, converted, artifact_dir)
    broken = [weight for weight in found.weights if weight.beyond]
    elements = sum(weight.size for weight in found.weights)
    return {
        "counts": {"structure_difference_count": found.operators, "weights_beyond_count": elements},
        "beyond": [
            f"{weight.beyond} of {weight.size} elements of '{weight.name}', worst at [{weight.channel}]"
            for weight in sorted(broken, key=lambda weight: -weight.beyond)[:WORST]
        ],
        "differences": [*found.differences[:WORST], *strays[:WORST]],
        "values": {
            "structure_difference_count": len(found.differences) + len(strays),
            "weights_beyond_count": found.beyond,
        },
    }, found.grids


def unaccounted(whole: registry.Whole, converted: Path, artifact_dir: Path) -> list[str]:
    """Name what lies in the files of two models, or beside them, and no comparison accounts for: a bundle carries it.

    Raises:
        ArtifactError: a file contradicts itself.
    """
    places = (("converted model", converted, whole.CONVERTED), ("artifact", artifact_dir, {QUANTIZATION, *whole.FILES}))
    found = [
        f"'{item.name}' lies beside the {name}"
        for name, directory, own in places
        for item in sorted(directory.iterdir())
        if item.name not in {artifact.MANIFEST, SIGNATURE, *own}
    ]
    try:
        return [*whole.strays(converted, artifact_dir), *found]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, struct.error) as error:
        raise ArtifactError(f"'{artifact_dir}' contradicts itself: {error!r}", next_step="run `dvc repro`") from error


def check_grids(target: str, converted: Path, reference: Path, grids: Grids) -> dict[str, Any]:
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


def check_conversion(session: Session, splits: Mapping[str, Arrays], inputs: Inputs) -> dict[str, Any]:
    """Compare the converted model, which nothing has rounded yet, with the reference, and with itself in other forms.

    What quantisation hides in its own noise (an epsilon, a position, an activation function of another model) is in
    plain sight here.
    """
    shown = {name: split for name, split in splits.items() if name != "test"}
    errors = [
        metrics.measure_parity(reference=split["logits"], outputs=evaluate(session, split, f"converted {name}"))[0]
        for name, split in shown.items()
    ]
    forms = check_forms(session, splits["probe"], inputs.converted, inputs.checkpoint)["values"]
    worst = [one.get("relative_max_error", np.inf) for one in errors] + [forms.get("form_relative_error", np.inf)]
    if session.batches:
        worst.append(conversion.batch_error(session, splits["probe"], read_signature(inputs.converted).tokens.pad))
    counts = {"conversion_relative_max_error": sum(len(split["logits"]) for split in shown.values())}
    return {"counts": counts, "values": _finite({"conversion_relative_max_error": max(worst)})}


def check_forms(session: Session, probe: Arrays, artifact_dir: Path, checkpoint: Path) -> dict[str, Any]:
    """Ask the artifact the same texts padded, above other padding and in a batch."""
    signature, config = read_signature(artifact_dir), artifact.read_json(checkpoint / "config.json")
    found = invariance.measure(
        lambda inputs: session.run(FORWARD, inputs)["logits"],
        probe,
        lengths=signature.sequence_lengths,
        pad_token_id=signature.tokens.pad,
        vocabulary=int(config["vocab_size"]),
        reach=family_of(config).reach(config),
        batches=session.batches,
    )
    return {
        "counts": {"form_relative_error": len(invariance.spread_over_lengths(probe))},
        "forms": _finite(found),
        "values": _finite({"form_relative_error": max(found.values())}),
    }


def check_calibration(artifact_dir: Path, reference: Path, splits: Mapping[str, Arrays]) -> dict[str, Any]:
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


def measure_artifact(
    target: str, artifact_dir: Path, inputs: Inputs, *, execute: bool = True
) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """Measure one artifact.

    Args:
        target: its platform.
        artifact_dir: where it lies.
        inputs: what it is measured against.
        execute: whether to run it as well; what is only read needs no runtime, and little time.

    Returns:
        What goes into `metrics.json`, and the logits by split.
    """
    from safetensors.numpy import load_file

    splits = {name: artifact.read_arrays(inputs.reference / f"{name}.npz") for name in SPLITS}
    module, weights = registry.runtime(target), registry.weights(target)
    altered = artifact.problems(artifact_dir) + identity.broken_chain(artifact_dir, inputs.converted, inputs.checkpoint)
    result: dict[str, Any] = {"altered": altered, "runtime": None}
    outputs: dict[str, NDArray[np.float32]] = {}
    reason = module.available() if execute else "it was read, and not run"
    try:
        result["altered"] += identity.foreign_interface(
            inputs.checkpoint, inputs.teacher, inputs.converted, inputs.reference, inputs.data
        )
        tensors = load_file(inputs.checkpoint / "model.safetensors")
        config = artifact.read_json(inputs.checkpoint / "config.json")
        first = family_of(config).first_position(config)
        result["audit"] = audit(
            tensors,
            partial(weights.weights, inputs.converted),
            partial(weights.weights, artifact_dir),
            partial(match, positions=splits["test"]["input_ids"].shape[1], first=first),
            own_grid.expected(target, artifact.read_json(artifact_dir / QUANTIZATION).get("asked")),
        )
        result["calibration"] = check_calibration(artifact_dir, inputs.reference, splits)
        if result["calibration"].get("foreign"):
            result["altered"].append(f"it was calibrated on other utterances than lie in '{inputs.reference}'")
        result["structure"], grids = compare_structure(target, inputs.converted, artifact_dir)
        if reason is None:
            conversion.check_vocabulary(target, inputs.converted, tensors, result["audit"])
            result["conversion"] = check_conversion(module.open_runtime(inputs.converted, threads=1), splits, inputs)
            if grids:
                result["activations"] = check_grids(target, inputs.converted, inputs.reference, grids)
            session = module.open_runtime(artifact_dir, threads=1)
            outputs = {name: evaluate(session, split, f"{artifact_dir.name} {name}") for name, split in splits.items()}
            result["form"] = check_forms(session, splits["probe"], artifact_dir, inputs.checkpoint)
            result["saturation"] = module.saturation(artifact_dir, splits["probe"])
            result |= measure(splits, np.load(inputs.teacher / "test_logits.npy"), outputs)
            result |= {"runtime": session.label, "runtime_versions": module.versions(), "status": "measured"}
            result["numerics"] = executor(session.label, target).note
        else:
            result |= {"reason": reason, "status": "not_measured"}
    except (ArtifactError, InputError) as error:
        result |= {"reason": str(error), "status": "failed"}
    return result, outputs
