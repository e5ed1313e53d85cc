"""What MLflow's run of a record holds: written from here, and compared with here.

Nothing in it depends on who tracked the record, when, or at which commit: those are the run's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stages.core.artifact import write_json
from stages.tracking import wording
from stages.tracking.record import SHORT, Build, Split, Variant

# A longer value is no parameter but a document: params.yaml, which is attached whole, has it.
PARAM_LIMIT = 500
MEASURED_ON = ("calibration", "probe", "test")
LINEAGE = "lineage.json"


@dataclass(frozen=True)
class Input:
    """A data set or checkpoint that a record was made of.

    Attributes:
        name: `clinc150.test` or `teacher`.
        role: its context in MLflow.
        sha256: of its file.
        path: of its file.
        count: utterances, None for a checkpoint.
    """

    name: str
    role: str
    sha256: str
    path: str
    count: int | None

    @property
    def profile(self) -> str | None:
        """Return its size as MLflow shows it."""
        return None if self.count is None else json.dumps({"num_rows": self.count})


@dataclass(frozen=True)
class Content:
    """What a run holds.

    Attributes:
        name: the run's name.
        tags: those that follow from the record.
        params: without long ones.
        metrics: name → value.
        inputs: what the record was made of.
    """

    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    inputs: list[Input]


def of_build(build: Build) -> Content:
    """Return what a build's run holds."""
    tags = {"kind": "build", "fingerprint": build.fingerprint, **SOURCE}
    return Content(wording.build_name(build), tags, _short(build.params), build.metrics, _inputs(build, build.splits))


def of_variant(build: Build, variant: Variant) -> Content:
    """Return what a variant's run holds; its logged model has the same parameters and metrics."""
    tags = {**tags_of(variant), "variant": variant.key, "kind": "variant", "fingerprint": variant.fingerprint, **SOURCE}
    inputs = _inputs(build, [split for split in build.splits if split.role in MEASURED_ON])
    return Content(wording.run_name(variant), tags, _short(variant.params), variant.metrics, inputs)


SOURCE = {"mlflow.source.name": "dvc repro", "mlflow.source.type": "PROJECT"}


def tags_of(variant: Variant) -> dict[str, str]:
    """Short keys, the verdict first: MLflow cuts tags at a line's end and keys at about twelve characters."""
    verdict = variant.verdict
    return {
        "verdict": verdict["verdict"],
        "runtime": verdict["runtime"] or "none",
        **{key: text[:PARAM_LIMIT] for key, text in {
            "reasons": "; ".join(verdict["reasons"]),
            "dominated": verdict["dominated"],
            "notes": "; ".join(verdict["notes"]),
            "devices": "; ".join(
                f"{name}: {'no' if fit['reasons'] else fit['accelerator']}"
                for name, fit in verdict.get("devices", {}).items()
            ),
            "no_latency": "" if "latency_p50_ms" in verdict["metrics"] else verdict["timing"],
            "host": variant.host,
            "tools": variant.tools,
        }.items() if text},
        **{stage: sha[:SHORT] for stage, sha in variant.chain.items()},
    }  # fmt: skip


def files_of(build: Build) -> dict[str, Path]:
    """Return name → file of what is attached to a build's run."""
    return {path.name: path for path in build.files}


def files_of_variant(variant: Variant, scratch: Path) -> dict[str, Path]:
    """Write what is attached to a variant's run into a scratch directory; name → file."""
    write_json(scratch / LINEAGE, {"chain": dict(variant.chain), "verdict": dict(variant.verdict)})
    return {LINEAGE: scratch / LINEAGE}


def _short(params: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in params.items() if len(value) <= PARAM_LIMIT}


def _inputs(build: Build, splits: list[Split]) -> list[Input]:
    """The teacher last: MLflow's pages show the first of them."""
    inputs = [
        Input(split.name, split.role, split.digest, f"build/data/{split.role}.jsonl", split.count)
        for split in reversed(splits)
    ]
    return [*inputs, Input("teacher", "teacher", build.teacher, "build/teacher/manifest.json", None)]
