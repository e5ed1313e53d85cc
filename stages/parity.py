"""Measure how well an artifact agrees with the reference, how good its answers are, and that no weight is lost.

Reads: the artifact, the checkpoint it came from, the reference's inputs and logits, the teacher's test logits.
Writes: `metrics.json` (values, intervals, weights, the runtime that executed), `outputs.npz`, `manifest.json`.
Why: it measures and never judges, so that a new threshold reruns the gate alone.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from stages.core import artifact, cli
from stages.core.errors import ArtifactError
from stages.measure import metrics
from stages.measure.audit import match
from stages.targets import registry
from stages.targets.base import Runtime

Arrays = Mapping[str, NDArray[Any]]
WORST = 5
"""Weights listed by name."""


def evaluate(runtime: Runtime, split: Arrays, name: str) -> NDArray[np.float32]:
    """Run the artifact over a split, one utterance at a time at its true length, as an app would.

    Args:
        runtime: the opened artifact.
        split: `input_ids` and `attention_mask`, int32 [n, max_length], right-padded.
        name: for the progress bar.

    Returns:
        Logits, fp32 [n, labels].

    Raises:
        ArtifactError: the artifact fails while it runs, or answers in another shape than the reference.
    """
    lengths = split["attention_mask"].sum(axis=1)
    rows = []
    for index in tqdm(range(len(lengths)), desc=name, leave=False):
        length = int(lengths[index])
        inputs = {key: split[key][index : index + 1, :length] for key in ("input_ids", "attention_mask")}
        rows.append(runtime.run(inputs)["logits"])
    outputs = np.concatenate(rows)
    if outputs.shape != split["logits"].shape:
        raise ArtifactError(f"the artifact answers {outputs.shape}", expected=f"{split['logits'].shape} logits")
    return outputs


def measure(probe: Arrays, test: Arrays, teacher: NDArray[np.float32], outputs: Arrays) -> dict[str, Any]:
    """Compare outputs with the reference on both splits, and with the labels on the test split.

    Args:
        probe: the reference's probe inputs and logits.
        test: the reference's test inputs, labels and logits.
        teacher: the teacher's test logits, fp32 [n, labels].
        outputs: the artifact's logits, `probe` and `test`.

    Returns:
        `probe` and `test`, each with `values` and 95 % `intervals`. Quality is left out when an output is not
        finite, so a gate that asks for it fails on the missing metric.
    """
    measured: dict[str, Any] = {}
    for name, split in (("probe", probe), ("test", test)):
        values, intervals = metrics.measure_parity(reference=split["logits"], outputs=outputs[name])
        measured[name] = {"values": values, "intervals": intervals}
    if measured["test"]["values"]["non_finite_count"] == 0:
        values, intervals = metrics.measure_quality(
            labels=test["labels"], outputs=outputs["test"], reference=test["logits"], teacher=teacher
        )
        measured["test"]["values"].update(values)
        measured["test"]["intervals"].update(intervals)
    return measured


def audit(checkpoint: Arrays, stored: Arrays, test: Arrays) -> dict[str, Any]:
    """Compare the artifact's weights with the checkpoint's; no runtime takes part.

    Args:
        checkpoint: tensors by name.
        stored: the artifact's weights, fp32.
        test: the reference's test inputs, int32 [n, max_length]; thresholds ask for its `n`.

    Returns:
        `values`, and `weights`: cosine of the worst matrices by name.
    """
    items, length = test["input_ids"].shape
    cosines = match(checkpoint, stored, positions=length)
    worst = sorted(cosines, key=lambda name: (cosines[name], name))[:WORST]
    return {
        "values": {"weight_cosine_min": cosines[worst[0]], "n": items},
        "weights": {name: cosines[name] for name in worst},
    }


def run(target: str, artifact_dir: Path, checkpoint: Path, reference: Path, teacher: Path, out: Path) -> None:
    """Measure whatever bytes lie in `artifact_dir`, altered ones too: the gate judges, with `altered` in hand."""
    from safetensors.numpy import load_file

    for directory in (checkpoint, reference):
        artifact.require(directory)
    altered = artifact.problems(artifact_dir)
    splits = {name: artifact.read_arrays(reference / f"{name}.npz") for name in ("probe", "test")}
    module = registry.load(target, "runtime")
    result: dict[str, Any] = {"altered": altered, "runtime": None}
    outputs: dict[str, NDArray[np.float32]] = {}
    reason = module.available()
    try:
        stored = registry.load(target, "weights").weights(artifact_dir)
        result["audit"] = audit(load_file(checkpoint / "model.safetensors"), stored, splits["test"])
        if reason is None:
            runtime = module.open_runtime(artifact_dir, threads=1)
            outputs = {name: evaluate(runtime, split, f"{artifact_dir.name} {name}") for name, split in splits.items()}
            teacher_logits = np.load(teacher / "test_logits.npy")
            result |= measure(splits["probe"], splits["test"], teacher_logits, outputs)
            result |= {"runtime": runtime.label, "status": "measured"}
        else:
            result |= {"reason": reason, "status": "not_measured"}
    except ArtifactError as error:
        result |= {"reason": str(error), "status": "failed"}
    parents = {"artifact": artifact_dir, "checkpoint": checkpoint, "reference": reference, "teacher": teacher}
    with artifact.writing(out, stage="parity", parents=parents) as temporary:
        artifact.write_json(temporary / "metrics.json", result)
        artifact.write_arrays(temporary / "outputs.npz", outputs)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = cli.parser(__doc__, "artifact", "checkpoint", "reference", "teacher", "out")
    parser.add_argument("--target", required=True)
    return cli.execute(
        parser,
        argv,
        lambda arguments: run(
            arguments.target,
            arguments.artifact,
            arguments.checkpoint,
            arguments.reference,
            arguments.teacher,
            arguments.out,
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
