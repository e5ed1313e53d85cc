"""Gather, from files alone, everything MLflow is told about a build: no MLflow here, no clock.

A record's fingerprint is the sha256 over the content it describes. It is the key that makes tracking idempotent:
what is already there under the same fingerprint is not written again, whichever clone or cache it came from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from stages.core import artifact, revision
from stages.gating import explained
from stages.measure.registry import REGISTRY
from stages.schema.layout import CHECKPOINTS, behind, place
from stages.schema.measured import read_benchmark
from stages.schema.verdict import Entry, Word
from stages.tasks.base import Primary
from stages.tasks.facts import facts, of_data

SHORT = 12
SPLITS = ("train", "validation", "calibration", "probe", "test")
VERDICTS: tuple[Word, ...] = ("pass", "fail", "not_measured")


@dataclass(frozen=True)
class Variant:
    """One variant as MLflow shows it.

    Attributes:
        key: its name.
        fingerprint: sha256 of its verdict and of every stage output in its chain.
        verdict: its entry in `verdicts.json`, and where it went wrong.
        chain: stage → sha256 of that stage's manifest, from data to benchmark.
        artifact: directory of the artifact.
        primary: which of its metrics says how good it is.
        metrics: grouped name (`quality/accuracy`) → value; an interval's ends are `NAME.low` and `NAME.high`.
        params: compression, precision, target and the settings that shaped the bytes, flat.
        host: what the benchmark ran on, for people.
        tools: distributions that shaped the artifact, with versions.
    """

    key: str
    fingerprint: str
    verdict: Entry
    chain: Mapping[str, str]
    artifact: Path
    primary: Primary
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    host: str = ""
    tools: str = ""


@dataclass(frozen=True)
class Split:
    """One split of the data set.

    Attributes:
        name: `clinc150.test`.
        role: train, validation, calibration, probe or test.
        digest: sha256 of its file.
        count: utterances.
    """

    name: str
    role: str
    digest: str
    count: int


@dataclass(frozen=True)
class Build:
    """One build as MLflow shows it.

    Attributes:
        fingerprint: sha256 over the variants' fingerprints and the parameters.
        variants: all of them, failing ones too.
        params: params.yaml, flat, dotted keys.
        metrics: quality and size of teacher and student, number of variants by verdict.
        git: revision and whether the tree was dirty when it was tracked.
        files: what is attached to the parent run.
        splits: of the data set, counts and digests only.
        teacher: sha256 of the teacher's manifest.
    """

    fingerprint: str
    variants: list[Variant]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    git: Mapping[str, str]
    files: list[Path]
    splits: list[Split]
    teacher: str

    @property
    def verdicts(self) -> dict[str, int]:
        """Number of variants by verdict."""
        given = [variant.verdict["verdict"] for variant in self.variants]
        return {name: given.count(name) for name in VERDICTS}


def collect(build: Path, verdicts: Path, report: Path, params_file: Path, params: Mapping[str, Any]) -> Build:
    """Read a finished build.

    Args:
        build: directory of all stage outputs.
        verdicts: the gate's verdicts.
        report: the report's directory.
        params_file: params.yaml.
        params: its content.

    Raises:
        ArtifactError: a stage output is missing.
    """
    judged, primary = explained.read_verdicts(verdicts), facts(of_data(place(build, "data"))).PRIMARY
    pairs = artifact.read_json(report / "agreement.json")
    variants = [_variant(build, key, entry, pairs, primary) for key, entry in sorted(judged.items())]
    flat = flatten({key: value for key, value in params.items() if key not in ("plan", "variants", "gate")})
    metrics = {f"variants/{name}": 0.0 for name in VERDICTS} | _across_platforms(judged, pairs)
    for variant in variants:
        metrics[f"variants/{variant.verdict['verdict']}"] += 1
    for role in CHECKPOINTS:
        evaluation = artifact.read_json(place(build, role) / "evaluation.json")
        metrics |= {f"{role}/{name}": float(evaluation[name]) for name in (primary.metric, "n", "parameters")}
        low, high = evaluation[f"{primary.metric}_interval"]
        metrics |= {f"{role}/{primary.metric}.high": high, f"{role}/{primary.metric}.low": low}
        for row in evaluation.get("canary_exposure", {}).get("bits", []):
            metrics[f"{role}/canary_exposure_bits.{row['repeats']}"] = mean(row["bits"])
    baseline, bar = artifact.read_json(place(build, "data") / "summary.json")["baseline"], primary.of_bar
    low, high = baseline[f"{bar}_interval"]
    metrics |= {f"honesty_bar/{bar}{end}": number for end, number in ((".high", high), (".low", low))}
    metrics[f"honesty_bar/{bar}"] = float(baseline[bar])
    flat["honesty_bar"] = str(baseline["method"])
    return Build(
        fingerprint=_sha256([variant.fingerprint for variant in variants] + [flat]),
        variants=variants,
        params=flat,
        metrics=dict(sorted(metrics.items())),
        git=git_state(),
        files=[params_file, verdicts, report / "index.html", report / "agreement.json"],
        splits=_splits(place(build, "data"), flat.get("data.kind", "data")),
        teacher=artifact.digest(place(build, "teacher")),
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
    """Return the revision, and whether files that decide a build differ from it (`unknown` outside a repository)."""
    here = revision.find()
    told = here.stated or here.commit == revision.UNKNOWN
    return {"dirty": "unknown" if told else str(bool(here.dirty)).lower(), "rev": here.commit}


def _variant(build: Path, key: str, entry: Entry, pairs: Sequence[Mapping[str, Any]], primary: Primary) -> Variant:
    places = behind(build, key, entry["compression"], entry["target"])
    chain = {role: artifact.digest(path) for role, path in places.items()}
    made, compressed = artifact.manifest(places["artifact"]), artifact.manifest(places["compressed"])
    benchmark = read_benchmark(places["benchmark"])
    axes = {name: entry[name] for name in ("compression", "precision", "target", "verdict")}
    return Variant(
        key,
        _sha256([entry, chain]),
        entry,
        chain,
        places["artifact"],
        metrics=_metrics(entry) | _with_teacher(key, pairs),
        params=flatten(compressed["params"]) | flatten(made["params"]) | axes,
        host=_host(benchmark["host"]) if "latency_p50_ms" in entry["metrics"] else "",
        tools=", ".join(f"{tool} {version}" for tool, version in sorted(made["tools"].items())),
        primary=primary,
    )


def _metrics(entry: Entry) -> dict[str, float]:
    """Group metrics as MLflow's charts do, by what stands before the slash."""
    grouped: dict[str, float] = {}
    for name, value in entry["metrics"].items():
        group = "quality" if name == "n" else REGISTRY[name].group
        grouped[f"{group}/{name}"] = float(value)
        if name in entry["intervals"]:
            low, high = entry["intervals"][name]
            grouped |= {f"{group}/{name}.high": float(high), f"{group}/{name}.low": float(low)}
    grouped |= {f"devices/{name}.fits": float(not fit["reasons"]) for name, fit in entry.get("devices", {}).items()}
    return dict(sorted(grouped.items()))


def _with_teacher(key: str, pairs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return how often a variant answers as the teacher does; nothing where it was not run."""
    names = {"agreement/teacher": "agreement", "agreement/teacher.high": "agreement_high"}
    names["agreement/teacher.low"] = "agreement_low"
    return {
        name: float(pair[column])
        for pair in pairs
        if (pair["first_kind"], pair["second_kind"], pair["second"]) == ("teacher", "variant", key)
        for name, column in names.items()
    }


def _across_platforms(judged: Mapping[str, Entry], pairs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the lowest agreement of two passing variants of one compression on different platforms, if there are two.

    It bounds how differently two apps answer that ship what was built here.
    """
    found = []
    for pair in pairs:
        if (pair["first_kind"], pair["second_kind"]) == ("variant", "variant"):
            first, second = judged[pair["first"]], judged[pair["second"]]
            related = first["compression"] == second["compression"] and first["target"] != second["target"]
            if related and first["verdict"] == second["verdict"] == "pass":
                found.append(float(pair["agreement"]))
    return {"agreement/across_platforms": min(found)} if found else {}


def _host(host: Mapping[str, Any]) -> str:
    return f"{host['cpu_model']}, {host['cores']} cores, {host['cpu_isa'] or host['machine']}"


def _splits(data: Path, kind: str) -> list[Split]:
    counts = artifact.read_json(data / "summary.json")["counts"]
    files = artifact.manifest(data)["files"]
    return [Split(f"{kind}.{role}", role, files[f"{role}.jsonl"]["sha256"], int(counts[role])) for role in SPLITS]


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
