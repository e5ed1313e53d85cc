"""Put one fault into a copy of an artifact, or of what lies below it, and measure and judge the result."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from stages.core import artifact
from stages.core.errors import ArtifactError, ConversionError
from stages.core.names import module_name
from stages.core.process import quiet
from stages.gating import beside
from stages.gating.verdict import Verdict, flatten, judge
from stages.injecting import catalogue
from stages.injecting.catalogue import Fault, NotApplicable, Subject
from stages.injecting.hidden import BESIDE, HIDDEN
from stages.injecting.tensor import Editor
from stages.measure import extent
from stages.models.families import family_of
from stages.running import asking
from stages.running.runner import Runner
from stages.schema.gate import Gate, Threshold
from stages.schema.layout import behind, place
from stages.schema.measured import Benchmark
from stages.schema.variant import Precision, Target, Variant
from stages.targets import registry
from stages.targets.answers import Ask
from stages.targets.base import read_signature
from stages.targets.parity import Inputs, measure_artifact
from stages.tasks import registry as tasks
from stages.tasks.facts import facts

FILES = {**catalogue.FILES, **BESIDE}
"""Faults in the artifact's files as such."""
CLEAN = "none"


class TaskFaults(Protocol):
    """The part `faults` of a task.

    Attributes:
        STORED: faults in what its artifacts store, for an editor to put there.
        INTERFACE: faults in what ships beside them, which the bundle takes from the checkpoint.
    """

    STORED: Mapping[str, Fault]
    INTERFACE: Mapping[str, Callable[[Path], None]]


def of_task(task: str) -> TaskFaults:
    """Import the faults of a task."""
    found: TaskFaults = tasks.faults(task)
    return found


def stored(task: str) -> dict[str, Fault]:
    """Return all that an editor puts into what an artifact stores."""
    return {**of_task(task).STORED, **HIDDEN}


def names(task: str) -> tuple[str, ...]:
    """Name all faults that an artifact may have."""
    return (*stored(task), *FILES, *of_task(task).INTERFACE)


@dataclass(frozen=True)
class Case:
    """A variant of a build, and what its verdict follows from.

    Attributes:
        build: directory of all stage outputs.
        key: of the variant.
        variant: compression, target, precision.
        gate: thresholds.
        precision: what the variant was lowered to.
        target: the target's own knobs.
        runner: where it is run.
    """

    build: Path
    key: str
    variant: Variant
    gate: Gate
    precision: Precision
    target: Target
    runner: Runner

    @property
    def inputs(self) -> Inputs:
        """Where what the artifact is measured against lies."""
        found = behind(self.build, self.key, self.variant.compression, self.variant.target)
        roles = {item.name: item.name for item in fields(Inputs)} | {"checkpoint": "compressed"}
        return Inputs(**{name: found[role] for name, role in roles.items()})

    @property
    def task(self) -> str:
        """What the artifact is for."""
        return read_signature(self.directory).task

    @property
    def directory(self) -> Path:
        """Where the artifact lies."""
        return place(self.build, "artifact", variant=self.key)

    @property
    def thresholds(self) -> list[Threshold]:
        """All that the verdict asks of this precision."""
        return self.gate.bounds(self.variant.precision)


@dataclass(frozen=True)
class Outcome:
    """What became of one fault.

    Attributes:
        verdict: the gate's, `refused` where the damaged model could not even be lowered, or `not_applicable`.
        reason: the first of the gate's, or why there is no verdict.
    """

    verdict: str
    reason: str

    @property
    def killed(self) -> bool:
        """Whether the fault cannot ship."""
        return self.verdict in ("fail", "refused")


def after_quantization(case: Case, fault: str, scratch: Path, *, seed: int = 0) -> Outcome:
    """Put a fault into the artifact itself.

    Args:
        case: the variant.
        fault: one of `names`, or `CLEAN`.
        scratch: an empty directory.
        seed: of what the fault chooses at random.
    """
    damaged = _copy(case.directory, place(scratch, "artifact", variant=case.key))
    try:
        inputs = _damage(case, fault, damaged, scratch, seed)
    except NotApplicable as reason:
        return Outcome("not_applicable", str(reason))
    return _judged(case, damaged, inputs)


def before_quantization(case: Case, fault: str, scratch: Path, *, seed: int = 0) -> Outcome:
    """Put a fault into the converted model, as a broken converter would, and lower that to the variant's precision.

    Args:
        case: the variant.
        fault: one of `stored`, or `CLEAN`.
        scratch: an empty directory.
        seed: of what the fault chooses at random.
    """
    inputs = case.inputs
    converted = _copy(inputs.converted, scratch / "converted" / inputs.converted.name)
    out = place(scratch, "artifact", variant=case.key)
    calibration = artifact.read_arrays(inputs.reference / "calibration.npz")
    lowering = registry.quantize(case.variant.target)
    try:
        inputs = replace(_damage(case, fault, converted, scratch, seed), converted=converted)
        with (
            artifact.writing(out, stage="quantize", parents={"converted": converted}) as temporary,
            quiet(scratch / "quantize.log"),
        ):
            lowering.quantize(converted, case.precision, calibration, case.target, temporary)
            shutil.copy2(case.directory / "quantization.json", temporary)
    except NotApplicable as reason:
        return Outcome("not_applicable", str(reason))
    except (ConversionError, ArtifactError) as error:
        return Outcome("refused", str(error))
    return _judged(case, out, inputs)


def _damage(case: Case, fault: str, directory: Path, scratch: Path, seed: int) -> Inputs:
    """Apply a fault and let the manifests say that all is well: what a broken tool writes, it writes a manifest of."""
    inputs, interface = case.inputs, of_task(case.task).INTERFACE
    if fault in (known := stored(case.task)):
        editor = open_editor(case.variant.target, directory)
        known[fault](_subject(case, editor, seed))
        editor.save()
        _vouch(directory)
    elif fault in FILES:
        FILES[fault](directory)
        _vouch(directory)
    elif fault in interface:
        checkpoint = _copy(inputs.checkpoint, scratch / "compressed")
        interface[fault](checkpoint)
        _vouch(checkpoint)
        converted = _copy(inputs.converted, scratch / "converted" / inputs.converted.name)
        _vouch(converted, compressed=checkpoint)
        _vouch(directory, converted=converted)
        inputs = replace(inputs, checkpoint=checkpoint, converted=converted)
    return inputs


def open_editor(target: str, directory: Path) -> Editor:
    """Open an artifact of a target for damage."""
    opened: Editor = importlib.import_module(f"stages.injecting.{module_name(target)}").ArtifactEditor(directory)
    return opened


def _subject(case: Case, editor: Editor, seed: int) -> Subject:
    from safetensors.numpy import load_file

    checkpoint = case.inputs.checkpoint
    config = artifact.read_json(checkpoint / "config.json")
    family = family_of(config)
    return Subject(
        editor=editor,
        checkpoint=load_file(checkpoint / "model.safetensors"),
        mask_constant=float(
            artifact.read_json(checkpoint / "profile.json").get("mask_constant", 0.0)
        ),  # a decoder has none
        heads=int(config[family.heads]) * family.packed,
        parts=family.parts,
        random=np.random.default_rng(seed),
        groups=int(config.get("num_key_value_heads") or config[family.heads]),
        epsilons=[value for name, value in config.items() if name.endswith("_eps")],
    )


def _judged(case: Case, directory: Path, inputs: Inputs) -> Outcome:
    verdict = _judged_once(case, directory, inputs, "it was read, and not run")
    # What fails unexecuted fails executed: running it can only add reasons, and takes most of the time.
    if verdict.verdict != "fail":
        verdict = _judged_once(case, directory, inputs, asking.on(case.runner, case.variant.target, inputs.reference))
    return Outcome(verdict.verdict, verdict.reasons[0] if verdict.reasons else "")


def _judged_once(case: Case, directory: Path, inputs: Inputs, ask: Ask | str) -> Verdict:
    measured = measure_artifact(case.variant.target, directory, inputs, ask).found
    # Faults are not timed; how much of an artifact there is needs no clock.
    task = facts(read_signature(inputs.converted).task)
    timing: Benchmark = {"status": "not_measured", "reason": "not timed", "intervals": {}, "host": {}}
    timing["values"] = extent.measure(directory, inputs.checkpoint)
    found = flatten(measured, timing, {}, task)
    asked = {threshold.metric for threshold in case.thresholds}
    if {task.PRIMARY.kept, task.PRIMARY.over_bar} & asked:
        beside.add(found, task.PRIMARY, *beside.read(case.build, task.PRIMARY))
    if task.PRIMARY.on_validation in asked:
        student = artifact.read_json(place(case.build, "student") / "evaluation.json")
        beside.add_student(found, task.PRIMARY, student)
    return judge(found, case.thresholds, case.gate.interval_below_n, [])


def _copy(source: Path, destination: Path) -> Path:
    shutil.copytree(source, destination)
    return destination


def _vouch(directory: Path, **parents: Path) -> None:
    """Rewrite the manifest so that it matches what lies there now."""
    path = directory / artifact.MANIFEST
    manifest = artifact.manifest(directory)
    files = sorted(item for item in directory.rglob("*") if item.is_file() and item != path)
    manifest["files"] = {
        item.relative_to(directory).as_posix(): {"sha256": artifact.sha256(item), "size_bytes": item.stat().st_size}
        for item in files
    }
    manifest["parents"] |= {role: artifact.digest(parent) for role, parent in parents.items()}
    artifact.write_json(path, manifest)
