"""What `verdicts.json` says of one variant: a contract with tools outside, so keys are added and none is renamed.

The types say to mypy what a key holds; a file of an older release may lack the newest, and says so with a KeyError.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from stages.core import artifact

Word = Literal["pass", "fail", "not_measured"]


class Bar(TypedDict):
    """How good what is no transformer is on the same test split."""

    interval: list[float]
    method: str
    metric: str
    value: float


class Fit(TypedDict):
    """What is said of a variant on one device."""

    accelerator: str
    """What runs it there; empty where nothing takes enough of it."""
    beside: list[str]
    """Why accelerators that the device would rather use take too little of it."""
    clients: list[str]
    """Clients of apps that run it there."""
    macs: float
    """Share of multiply-accumulates that `accelerator` takes without a doubt."""
    partitions: int
    """Parts that it executes."""
    reasons: list[str]
    """Why the device cannot have it; empty where it fits."""
    title: str
    """What the device is."""


class Entry(TypedDict):
    """One variant's verdict, as the gate writes it."""

    calibration: dict[str, Any]
    """What was measured of the calibration beside its metrics."""
    compression: str
    counts: dict[str, int]
    """Metric → items that it was measured on."""
    dominated: str
    """Why its parent is the better choice on this host, or empty."""
    host: dict[str, Any]
    """Fingerprint of the host that timed it, empty where nothing did."""
    intervals: dict[str, list[float]]
    """Metric → its 95 % interval, of rates and quantiles."""
    measured: dict[str, str]
    """`parity`, `benchmark` → digest of what was judged."""
    metrics: dict[str, float]
    """Metric → number, only what was measured and can be."""
    notes: list[str]
    """What else to know before choosing it: that a linear model does better, where this host is not the device."""
    precision: str
    reasons: list[str]
    """Why it is not a pass."""
    runtime: str | None
    """What executed it for parity, if anything did."""
    runtime_versions: dict[str, str]
    target: str
    thresholds: dict[str, Any]
    """All that it was judged by."""
    timing: str
    """Why it has no latency, or empty."""
    verdict: Word
    bar: NotRequired[Bar]
    """The honesty bar, which no transformer should be chosen below; releases before it was there lack it."""
    devices: NotRequired[dict[str, Fit]]
    """Chosen devices that its target serves; releases before there were any lack it."""
    divergence: NotRequired[Mapping[str, Any]]
    """Where it first departs from its checkpoint; added where `explained.json` is read beside the verdicts."""
    foreign_cores: NotRequired[float | None]
    """In a sweep's record: cores that others used while it was timed."""


def read(verdicts: Path) -> dict[str, Entry]:
    """Read the gate's verdicts: variant → entry.

    Raises:
        ArtifactError: the file is missing or is not JSON.
    """
    found: dict[str, Entry] = artifact.read_json(verdicts)["variants"]
    return found
