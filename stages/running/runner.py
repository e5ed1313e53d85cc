"""What a device is asked for and what it answers: the surface of every module beside this one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, TypedDict

from stages.core.params import Section

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
    answer: list[str]
    """Splits to answer."""
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
            artifact: output of `quantize`.
            inputs: `SPLIT.npz` of every split that is named, as `reference` writes them.
            out: a directory, which gets `answers.npz`: split → logits of its items, fp32 [items, classes].

        Raises:
            ArtifactError: the artifact cannot be opened or run, or brings its process down.
        """
        ...
