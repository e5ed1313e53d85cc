"""What the `metrics.json` of parity and benchmark hold; what lacks any of it is read too, and fails at the gate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict

from stages.core import artifact

Status = Literal["measured", "not_measured", "failed"]
PartName = Literal["weights", "structure", "conversion", "form", "calibration", "activations", "greedy"]
SplitName = Literal["probe", "test", "coverage"]


class Part(TypedDict, total=False):
    """Numbers of one kind."""

    values: Mapping[str, Any]
    """Metric → number."""
    intervals: Mapping[str, Any]
    """Metric → 95 % interval."""
    counts: Mapping[str, int]
    """Metric → items that it was measured on."""
    texts: Mapping[str, int]
    """Metric → texts that these items come from, where a text has several."""


class Weights(Part, total=False):
    """What became of the checkpoint's weights."""

    worst: dict[str, float]
    """The worst matrices → cosine."""
    rounded: str
    """The matrix that is furthest off for its grid."""
    converted: str
    """The matrix that the conversion holds worst."""


class Structure(Part, total=False):
    """What the artifact computes otherwise than the converted model."""

    beyond: list[str]
    differences: list[str]


class Forms(Part, total=False):
    """How far answers move with the form of the same text."""

    forms: dict[str, float]


class Activations(Part, total=False):
    """Whether activations have the grid of what they hold."""

    misfits: list[str]


class Greedy(Part, total=False):
    """How far texts that the artifact writes by itself are the reference's."""

    first: str
    """The first place where it prefers another token though the reference's leads by more than rounding explains."""


class Calibration(Part, total=False):
    """What it was calibrated on."""

    foreign: bool
    """Whether that is not what lies in the reference."""
    sha256: str
    utterances: int


class Compared(TypedDict, total=False):
    """What was measured of the answers of an artifact or a converted model, where it ran."""

    splits: dict[SplitName, Part]
    form: Forms
    together: dict[str, float]
    """`relative_max_error` of many texts at once, where it takes several; nothing where an answer is not finite."""
    greedy: Greedy
    saturation: dict[str, int]


class Parity(TypedDict, total=False):
    """Everything that parity found; parts that the artifact came far enough for."""

    status: Status
    reason: str
    altered: list[str]
    runtime: str | None
    runtime_versions: dict[str, str]
    numerics: str
    saturation: dict[str, int]
    weights: Weights
    structure: Structure
    conversion: Part
    form: Forms
    calibration: Calibration
    activations: Activations
    greedy: Greedy
    probe: Part
    test: Part
    coverage: Part


class Benchmark(Part, total=False):
    """What the artifact costs on one host, and how that was found."""

    status: Status
    reason: str
    host: dict[str, Any]
    load_average: list[float]
    runtime: str
    runtime_versions: dict[str, str]
    ratios_to_release: list[float]


def read_parity(directory: Path) -> Parity:
    """Read what parity measured of a variant: `build/parity/V`."""
    found: Parity = artifact.read_json(directory / "metrics.json")
    return found


def read_benchmark(directory: Path) -> Benchmark:
    """Read what the benchmark measured of a variant: `build/benchmark/V`."""
    found: Benchmark = artifact.read_json(directory / "metrics.json")
    return found
