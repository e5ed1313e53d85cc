"""Say how far a sweep is: a bar on a terminal, and a line per ended job there and in a log."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from omegaconf import DictConfig
from tqdm import tqdm

from stages.sweeping.ledger import Ledger

LOOK_S = 1.0


def foresee(config: DictConfig) -> tuple[int | None, list[str]]:
    """Return how many jobs a start of a sweep consists of, and what varies among them.

    A search asks for the same job more than once, so nobody knows how many it will be.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
    varied = [item for item in parsed if item.is_sweep_override()]
    searched = "basic_sweeper" not in config.hydra.sweeper._target_
    total = None if searched else math.prod(len(list(item.sweep_iterator())) for item in varied)
    return total, [item.key_or_group for item in varied]


class Progress(threading.Thread):
    """Watches the ledger, so that it tells of jobs on every host, whatever launched them."""

    def __init__(self, ledger: Ledger, total: int | None, varied: Sequence[str], stream: TextIO) -> None:
        """Begin at the ledger's last word; a job counts once its record is written, or found, after that.

        Args:
            ledger: of the sweep.
            total: jobs to expect, None where nobody knows.
            varied: what tells them apart.
            stream: where to write.
        """
        super().__init__(daemon=True)
        self.ledger, self.total, self.varied, self.stream = ledger, total, varied, stream
        self.begun_ns = (ledger.directory / "sweep.json").stat().st_mtime_ns  # by the file server's clock
        self.begun = time.time()
        self.ended: dict[str, dict[str, Any]] = {}
        self.halt = threading.Event()

    def run(self) -> None:
        """Look once a second until told to stop."""
        with tqdm(total=self.total, unit="job", file=self.stream, disable=not self.stream.isatty()) as bar:
            while not self.halt.wait(LOOK_S):
                self._look(bar)
            self._look(bar)

    def stop(self) -> None:
        """Tell of what ended last, and stop."""
        self.halt.set()
        self.join()

    def records(self) -> list[dict[str, Any]]:
        """Return the records of this start's jobs, those found finished among them."""
        return list(self.ended.values())

    def _look(self, bar: Any) -> None:
        for path in self.ledger.directory.glob("jobs/*/job.json"):
            identity = path.parent.name
            if identity in self.ended or path.stat().st_mtime_ns < self.begun_ns:
                continue
            record = self.ledger.read(identity)
            if record is None:
                continue
            self.ended[identity] = record
            bar.update()
            count = f"{len(self.ended):>{len(str(self.total))}}/{self.total}" if self.total else len(self.ended)
            bar.write(f"[{count}] {line(record, self.varied, self.begun)}", file=self.stream)
            self.stream.flush()


def varying(record: Mapping[str, Any], varied: Sequence[str]) -> str:
    """Return what tells a job from the others."""
    return " ".join(item for item in record["overrides"] if item.lstrip("+").partition("=")[0] in varied)


def line(record: Mapping[str, Any], varied: Sequence[str], begun: float) -> str:
    """Say in one line what became of a job."""
    wanted = varying(record, varied)
    if record["started"] < begun:
        return f"{record['state']} before  {wanted}"
    ran = sum(step["how"] == "ran" for step in record["steps"])
    what = f"{record['wall_s']:.1f} s, {ran} of {len(record['steps'])} stages run"
    return f"{record['state']:<8} {wanted}  ({what}){': ' + record['reason'] if record['reason'] else ''}"
