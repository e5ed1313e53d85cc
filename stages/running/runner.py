"""What a device is asked for and what it answers: the surface of every module beside this one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, TypedDict

from stages.core.params import Section
from stages.schema.asked import Asked
from stages.schema.measured import Compared

REQUEST, RECEIPT, ANSWERS = "request.json", "receipt.json", "answers.npz"


class Timing(Section):
    """Calls to be timed."""

    split: str
    texts: int
    """The first of the split, in turn."""
    warmup: int
    """Runs of each kind that are not recorded."""
    repetitions: int
    """Recorded runs of each kind."""


class Request(Section):
    """What to do with an artifact."""

    target: str
    threads: int
    answer: Asked | None
    time: Timing | None


class Receipt(TypedDict):
    """What ran, and what it took."""

    runtime: str
    """As `Session.label`."""
    runtime_versions: dict[str, str]
    load_time_ms: float
    peak_rss_bytes: int
    samples_ms: dict[str, list[float]]
    """Kind of call → milliseconds of each recorded run; empty where nothing was to be timed."""
    tokens: dict[str, int]
    """Kind of call → tokens that one reads, the first of its texts."""
    compared: Compared
    """What was measured of the answers; empty where none were asked for."""


class Runner(Protocol):
    """Runs artifacts on one kind of device."""

    def available(self) -> str | None:
        """Return None where artifacts can be run on it, else the reason they cannot."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """Describe the device: what decides a latency on it."""
        ...

    def run(self, request: Request, artifact: Path, inputs: Path, out: Path) -> Receipt:
        """Do what is asked for with nothing else in memory.

        Args:
            request: what to do.
            artifact: output of `quantize`, or of `convert`.
            inputs: output of `reference`.
            out: a directory, which gets a row of each answer (`items.npz`), and the logits that are to be kept
                (`answers.npz`: split → fp32 [items, columns]).

        Raises:
            ArtifactError: the artifact cannot be opened or run.
        """
        ...
