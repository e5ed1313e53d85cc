"""Bring a worktree's stages about: from the cache where anybody computed them, else once, for all who need them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stages.core.errors import TinsmithError
from stages.sweeping import alone, flight
from stages.sweeping.ledger import Ledger
from stages.sweeping.pipeline import Pipeline
from stages.sweeping.remote import Remote
from stages.tracking import place

BENCHMARK = "benchmark"
SAID = 300
"""Characters of a stage's last words that are kept as its reason."""


class StageFailed(TinsmithError):
    """A stage of a job ended with an error; its own line says why."""


@dataclass(frozen=True)
class Step:
    """How a stage came about in a job.

    Attributes:
        stage: its name.
        key: DVC's identity of it, empty where DVC keeps none.
        how: `ran` here, `recalled` from the cache, or `awaited` while another job computed it.
        cpu_s: of its command, children included.
        wall_s: of its command.
        waited_s: for another job that computed it, or for the host to be free.
        foreign_cores: cores' worth of other work on the host while it ran; benchmarks only.
    """

    stage: str
    key: str
    how: Literal["ran", "recalled", "awaited"]
    cpu_s: float = 0.0
    wall_s: float = 0.0
    waited_s: float = 0.0
    foreign_cores: float | None = None


@dataclass(frozen=True)
class Builder:
    """What a build needs beside its pipeline.

    Attributes:
        ledger: where failures are remembered.
        flights: folder of the locks, one for all that share the cache.
        remote: where results are exchanged with other hosts.
        environment: of the commands.
        log: file for their output.
    """

    ledger: Ledger
    flights: Path
    remote: Remote
    environment: dict[str, str]
    log: Path

    def build(self, pipeline: Pipeline, is_useless: Callable[[Any], bool]) -> tuple[list[Step], list[Any]]:
        """Bring about one stage after another.

        Args:
            pipeline: what is to be done.
            is_useless: asked after every stage whether the rest is still worth doing.

        Returns:
            The steps, and the stages that were reached: all of them, unless the job became useless.

        Raises:
            StageFailed: a command failed, here or, with the same inputs, in another job of this sweep.
        """
        steps, done = [], []
        for stage in pipeline.order:
            steps.append(self._reach(pipeline, stage))
            done.append(stage)
            if is_useless(stage):
                break
        return steps, done

    def _reach(self, pipeline: Pipeline, stage: Any) -> Step:
        key = pipeline.identify(stage)
        if not pipeline.is_kept(stage):
            return Step(stage.name, "", "recalled") if pipeline.lies_there(stage) else self._run(pipeline, stage, "")
        if pipeline.recall(stage, key):
            return Step(stage.name, key, "recalled")
        with flight.hold(self.flights, key) as waited_s:
            if pipeline.recall(stage, key):
                return Step(stage.name, key, "awaited", waited_s=waited_s)
            if self.remote.fetch(pipeline, stage, key):
                return Step(stage.name, key, "recalled")
            reason = self.ledger.failure(key)
            if reason:
                raise StageFailed(f"{stage.name}: {reason}")
            step = self._run(pipeline, stage, key)
        self.remote.push(pipeline, stage, key)
        return step

    def _run(self, pipeline: Pipeline, stage: Any, key: str) -> Step:
        pipeline.lay_out(stage)
        benchmark = stage.name.startswith(BENCHMARK)
        asked = time.monotonic()
        with alone.alone() if benchmark else alone.beside_others():
            foreign, started = alone.Foreign(), time.monotonic()
            status, cpu_s = self._command(stage)
            wall_s = time.monotonic() - started
            foreign_cores = round(foreign.cores(cpu_s), 2) if benchmark else None
        if status != 0:
            reason = self._last_words(status)
            if key and status > 0:  # a killed command says nothing about its inputs
                self.ledger.write_failure(key, stage.name, reason)
            raise StageFailed(f"{stage.name}: {reason}")
        pipeline.save(stage, key)
        waited_s = round(started - asked, 3)
        return Step(stage.name, key, "ran", round(cpu_s, 3), round(wall_s, 3), waited_s, foreign_cores)

    def _command(self, stage: Any) -> tuple[int, float]:
        """Run a stage's command; its exit status (negative: the signal) and CPU seconds come back."""
        with self.log.open("ab") as log:
            log.write(f"\n> {stage.name}: {stage.cmd}\n".encode())
            log.flush()
            process = subprocess.Popen(  # noqa: S602 (a shell, as DVC uses)
                stage.cmd,
                shell=True,
                cwd=stage.wdir,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        # A shell reports its child's death by signal n as 128 + n.
        code = process.returncode if process.returncode <= 128 else 128 - process.returncode
        return code, usage.ru_utime + usage.ru_stime

    def _last_words(self, status: int) -> str:
        of_stage = self.log.read_text(errors="replace", encoding="utf-8").rpartition("\n> ")[2]
        lines = [line for line in of_stage.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("error: ")]
        words = errors[-1].removeprefix("error: ") if errors and status == 1 else lines[-1]
        return words[:SAID] if status > 0 else f"killed by signal {-status}"


def environment_of(root: Path, sweep: str) -> dict[str, str]:
    """Return the environment of a job's commands.

    Args:
        root: the repository.
        sweep: the sweep's name, so that jobs are tracked as its and move no alias of the repository's own build.

    Returns:
        This process's, with this Python first, and MLflow's place as it is chosen from the repository.
    """
    environment = dict(os.environ)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
    environment.setdefault("OMP_NUM_THREADS", "1")
    environment["MLFLOW_TRACKING_URI"] = place.choose(environment, root).uri
    environment[place.SWEEP] = sweep
    return environment
