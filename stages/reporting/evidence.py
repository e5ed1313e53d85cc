"""Read everything the report says from what other stages wrote, once, and check that it belongs together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.gating import explained
from stages.measure import truncation
from stages.models.families import family_of
from stages.reporting.agreement import Model, read_agreement
from stages.reporting.clients import Asked, demo, read_clients
from stages.reporting.coverage import Platform, read_platforms
from stages.reporting.gaps import Gap, Spread, read_gaps, read_spread
from stages.reporting.lineage import Lineage, read_lineage
from stages.reporting.mixtures import Mixture, read_mixtures
from stages.schema.layout import BESIDE, CHECKPOINTS, MEASURED, behind, place
from stages.schema.measured import read_benchmark, read_parity
from stages.schema.variant import TargetName, Variant
from stages.schema.verdict import Fit
from stages.targets.facts import Executor, executor
from stages.tasks import registry as tasks
from stages.tasks.base import Primary
from stages.tasks.facts import Facts, facts, of_data

# Outputs whose content it says; an altered artifact is not among them, since the gate has a verdict on that.
QUOTED = ("data", *CHECKPOINTS, "reference", *MEASURED)


def rank(target: str) -> int:
    """Return the place of a platform, which fixes its colour and mark: two reports can be laid side by side.

    Unknown platforms come last.
    """
    known = get_args(TargetName)
    return known.index(target) if target in known else len(known)


@dataclass(frozen=True)
class Line:
    """One variant, as the gate judged it.

    Attributes:
        key: the variant.
        target: its platform.
        precision: its precision.
        compression: its compression.
        verdict: `pass`, `fail` or `not_measured`.
        reasons: why it is not a pass.
        runtime: what executed it for parity, if anything did.
        timing: why it has no latency, or empty.
        values: metric → number, only what was measured.
        intervals: metric → interval.
        dominated: why its parent is the better choice on this host, or empty.
        notes: where the measured numbers are not the device's.
        required: whether the release is refused without its pass.
        versions: distribution → version of what executed it, as it said itself.
        devices: chosen device that its platform is for → what the gate says of it there.
    """

    key: str
    target: str
    precision: str
    compression: str
    verdict: str
    reasons: list[str]
    runtime: str | None
    timing: str
    values: dict[str, float]
    intervals: dict[str, list[float]]
    dominated: str
    notes: list[str]
    required: bool
    versions: Mapping[str, str] = field(default_factory=dict)
    devices: Mapping[str, Fit] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        """Place of the platform."""
        return rank(self.target)

    @property
    def executor(self) -> Executor:
        """What executed it for parity, in words."""
        return executor(self.runtime)

    @property
    def short(self) -> str:
        """The key without the platform, where something beside it names the platform."""
        return self.key.removeprefix(f"{self.target}-")


@dataclass(frozen=True)
class Checkpoint:
    """A teacher or student: architecture, weights, how good it is on the test split.

    `bar` is the same in the honesty bar's metric, with its interval, where that is another one; `exposure` what it
    tells of the canaries in its training text (`tasks.registry.Model`), where it was trained here on text with some.
    """

    model_type: str
    layers: int | None
    hidden_size: int | None
    parameters: int
    score: float
    interval: Sequence[float]
    n: int
    bar: tuple[float, Sequence[float]] | None = None
    exposure: dict[str, Any] | None = None


@dataclass(frozen=True)
class Host:
    """A host that benchmarks were taken on.

    Attributes:
        facts: its fingerprint.
        variants: what was benchmarked there.
        load_average: lowest and highest 1-minute load while benchmarking.
    """

    facts: dict[str, Any]
    variants: list[str]
    load_average: tuple[float, float]


@dataclass(frozen=True)
class Evidence:
    """All that the report says.

    Attributes:
        task: what is known of the models' task.
        lines: the variants, by platform.
        data: number of `labels`, `params` and `summary` of the data set; `max_length`, and what of each split was `cut`
            there.
        teacher: what came in.
        student: what was compressed.
        distilled: whether the student learned from the teacher, or is the teacher passed through.
        gaps: of every step.
        spreads: variant → how its errors are distributed.
        agreement: everything that answered the test split, against everything else.
        clients: what the clients that apps use answered, where they were asked.
        coverage: what accelerators take, by platform.
        demo: where the page lies that lets a reader ask, None where there is none.
        lineage: what the manifests name.
        mixtures: what was measured to choose the precision of each weight, where there are two.
        hosts: where benchmarks were taken.
    """

    task: Facts
    lines: list[Line]
    data: dict[str, Any]
    teacher: Checkpoint
    student: Checkpoint
    distilled: bool
    gaps: list[Gap]
    spreads: dict[str, Spread]
    agreement: list[Model]
    clients: list[Asked]
    coverage: list[Platform]
    demo: str | None
    lineage: Lineage
    mixtures: list[Mixture]
    hosts: list[Host]


def load(variants: Mapping[str, Variant], build: Path, verdicts: Path) -> Evidence:
    """Read the chosen variants and none of the leftovers.

    Args:
        variants: the chosen variants.
        build: directory of all stage outputs.
        verdicts: what the gate wrote.

    Raises:
        ArtifactError: something is missing or altered, or was judged from other measurements than lie here.
    """
    places = {key: behind(build, key, variant.compression, variant.target) for key, variant in variants.items()}
    quoted = [found[role] for role in QUOTED for found in places.values()]
    quoted += [place(build, role, variant=key) for role in BESIDE for key in variants]
    for directory in dict.fromkeys(quoted):
        artifact.require(directory)
    lines = sorted(read_lines(variants, verdicts), key=lambda line: line.rank)
    for line in lines:
        _check_judged(line, places[line.key]["parity"])
    data = place(build, "data")
    task = of_data(data)
    known = facts(task)
    reference = places[lines[0].key]["reference"]
    case = tasks.exercise(task).case(artifact.read_arrays(reference / "test.npz"))
    return Evidence(
        task=known,
        lines=lines,
        data={
            "labels": len(artifact.read_json(data / "labels.json")) if (data / "labels.json").is_file() else 0,
            "cut": truncation.read(reference),
            "max_length": artifact.read_json(reference / "summary.json")["max_length"],
            "params": artifact.manifest(data)["params"]["data"],
            "summary": artifact.read_json(data / "summary.json"),
        },
        teacher=read_checkpoint(place(build, "teacher"), known.PRIMARY),
        student=read_checkpoint(place(build, "student"), known.PRIMARY),
        distilled=artifact.manifest(place(build, "student"))["params"]["student"]["kind"] != "none",
        gaps=read_gaps(variants, build, task, case),
        spreads={line.key: read_spread(places[line.key]["parity"]) for line in lines},
        agreement=read_agreement({line.key: variants[line.key] for line in lines}, build, case),
        clients=read_clients([line.key for line in lines], build),
        coverage=read_platforms({line.key: line.target for line in lines}, build),
        demo=demo(variants, build),
        lineage=read_lineage(variants, build),
        mixtures=read_mixtures([line.key for line in lines], build),
        hosts=read_hosts(list(variants), build),
    )


def read_lines(variants: Mapping[str, Variant], verdicts: Path) -> list[Line]:
    """Read the verdicts of the chosen variants.

    Raises:
        ArtifactError: a chosen variant was not judged.
    """
    judged = explained.read_verdicts(verdicts)
    lines = []
    for key, variant in variants.items():
        if key not in judged:
            raise ArtifactError(f"'{verdicts}' does not judge variant '{key}'", next_step="run `dvc repro gate`")
        entry = judged[key]
        lines.append(
            Line(
                key=key,
                target=variant.target,
                precision=variant.precision,
                compression=variant.compression,
                verdict=entry["verdict"],
                reasons=entry["reasons"],
                runtime=entry["runtime"],
                timing=entry["timing"],
                values=entry["metrics"],
                intervals=entry["intervals"],
                dominated=entry["dominated"],
                notes=entry["notes"],
                required=variant.required,
                versions=entry["runtime_versions"],
                devices=entry.get("devices", {}),
            )
        )
    return lines


def read_checkpoint(directory: Path, primary: Primary) -> Checkpoint:
    """Read what a teacher or student is, without loading it."""
    config, evaluation = (artifact.read_json(directory / f"{name}.json") for name in ("config", "evaluation"))
    family = family_of(config)
    return Checkpoint(
        model_type=config["model_type"],
        layers=config.get(family.layers),
        hidden_size=config.get(family.hidden_size),
        parameters=evaluation["parameters"],
        score=evaluation[primary.metric],
        interval=evaluation[f"{primary.metric}_interval"],
        n=evaluation["n"],
        bar=(evaluation[primary.bar], evaluation[f"{primary.bar}_interval"]) if primary.bar in evaluation else None,
        exposure=evaluation.get("canary_exposure"),
    )


def read_hosts(variants: Sequence[str], build: Path) -> list[Host]:
    """Group the chosen variants by the host their benchmark was taken on."""
    groups: list[tuple[dict[str, Any], list[tuple[str, float]]]] = []
    for key in variants:
        measured = read_benchmark(place(build, "benchmark", variant=key))
        entry = (key, float(measured["load_average"][0]))
        known = next((members for facts, members in groups if facts == measured["host"]), None)
        if known is None:
            groups.append((measured["host"], [entry]))
        else:
            known.append(entry)
    return [
        Host(facts, [key for key, _ in members], (min(load for _, load in members), max(load for _, load in members)))
        for facts, members in groups
    ]


def _check_judged(line: Line, parity: Path) -> None:
    measured = read_parity(parity)
    # A verdict beside another run's distributions would vouch for numbers it has never seen.
    values = measured["test"]["values"] if measured["status"] == "measured" else {}
    for name in ("mean_abs_error", "top1_agreement"):
        judged, found = line.values.get(name), values.get(name)
        if judged != found:
            raise ArtifactError(
                f"variant '{line.key}' was judged with {name} {judged}, '{parity}' has {found}",
                next_step="run `dvc repro gate`",
            )
