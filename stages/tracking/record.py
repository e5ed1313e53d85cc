"""Gather, from files alone, everything MLflow is told about a build: no MLflow here, no clock.

A record's fingerprint is the sha256 over the content it describes. It is the key that makes tracking idempotent:
what is already there under the same fingerprint is not written again, whichever clone or cache it came from.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core import artifact

SHORT = 12
CHAIN = ("data", "teacher", "student", "compressed", "reference", "converted", "artifact", "parity", "benchmark")


@dataclass(frozen=True)
class Variant:
    """One variant as MLflow shows it.

    Attributes:
        key: its name.
        fingerprint: sha256 of its verdict and of every stage output in its chain.
        verdict: its entry in `verdicts.json`.
        chain: stage → sha256 of that stage's manifest, from data to benchmark.
        artifact: directory of the artifact.
    """

    key: str
    fingerprint: str
    verdict: Mapping[str, Any]
    chain: Mapping[str, str]
    artifact: Path


@dataclass(frozen=True)
class Build:
    """One build as MLflow shows it.

    Attributes:
        fingerprint: sha256 over the variants' fingerprints and the parameters.
        variants: all of them, failing ones too.
        params: params.yaml, flat, dotted keys.
        evaluations: accuracy and size of teacher and student.
        git: revision and whether the tree was dirty when it was tracked.
        files: what is attached to the parent run.
        data: the data set's summary.
    """

    fingerprint: str
    variants: list[Variant]
    params: Mapping[str, str]
    evaluations: dict[str, float]
    git: Mapping[str, str]
    files: list[Path]
    data: Mapping[str, Any]


def collect(build: Path, verdicts: Path, report: Path, params_file: Path, params: Mapping[str, Any]) -> Build:
    """Read a finished build.

    Args:
        build: directory of all stage outputs.
        verdicts: the gate's verdicts.
        report: the report's directory.
        params_file: params.yaml.
        params: its content.
    """
    judged = artifact.read_json(verdicts)["variants"]
    variants = [_variant(build, key, entry) for key, entry in sorted(judged.items())]
    flat = flatten({key: value for key, value in params.items() if key not in ("plan", "variants", "gate")})
    evaluations: dict[str, float] = {}
    for role in ("teacher", "student"):
        evaluation = artifact.read_json(build / role / "evaluation.json")
        evaluations |= {f"{role}_{name}": float(evaluation[name]) for name in ("accuracy", "parameters")}
    return Build(
        fingerprint=_sha256([variant.fingerprint for variant in variants] + [flat]),
        variants=variants,
        params=flat,
        evaluations=evaluations,
        git=git_state(),
        files=[params_file, verdicts, report / "index.html"],
        data=artifact.read_json(build / "data" / "summary.json"),
    )


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Turn nested parameters into dotted keys and text values; lists stay whole, as JSON."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat


def git_state() -> dict[str, str]:
    """Return the revision and whether tracked or untracked files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()

    return {"rev": git("rev-parse", "HEAD") or "none", "dirty": str(bool(git("status", "--porcelain"))).lower()}


def describe(variant: Variant) -> str:
    """Write a variant's chain as the Markdown an auditor reads on the run's page."""
    rows = "\n".join(f"| {stage} | `{variant.chain[stage]}` |" for stage in CHAIN)
    reasons = "".join(f"\n- {reason}" for reason in variant.verdict["reasons"])
    runtime = variant.verdict["runtime"] or "nothing"
    return (
        f"**{variant.key}**: {variant.verdict['verdict']}, executed by `{runtime}`.{reasons}\n\n"
        f"| stage output | sha256 of its manifest |\n|---|---|\n{rows}\n"
    )


def _variant(build: Path, key: str, entry: Mapping[str, Any]) -> Variant:
    compression, target = entry["compression"], entry["target"]
    places = {
        "artifact": build / "artifact" / key,
        "benchmark": build / "benchmark" / key,
        "compressed": build / "compressed" / compression,
        "converted": build / "converted" / f"{compression}-{target}",
        "data": build / "data",
        "parity": build / "parity" / key,
        "reference": build / "reference" / compression,
        "student": build / "student",
        "teacher": build / "teacher",
    }
    chain = {stage: artifact.digest(places[stage]) for stage in CHAIN}
    return Variant(key, _sha256([entry, chain]), entry, chain, places["artifact"])


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
