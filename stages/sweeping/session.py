"""Begin and end a sweep in the process a person started: Hydra calls this before the first job and after the last."""

from __future__ import annotations

import shlex
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from stages import tasks
from stages.core import params
from stages.core.artifact import write_json
from stages.core.errors import ConfigError, TinsmithError
from stages.schema import overrides
from stages.sweeping import git, workspace
from stages.sweeping.job import ROOT
from stages.sweeping.ledger import Ledger
from stages.sweeping.settings import Sweep, read
from stages.tasks.base import Primary
from stages.tasks.facts import facts


class Session(Callback):  # type: ignore[misc]
    """One start of a sweep."""

    def __getstate__(self) -> dict[str, Any]:
        """Travel empty: Hydra sends its callbacks to every worker, and a thread cannot be sent."""
        return {}

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Take a snapshot of the repository, clear what killed starts left, and watch the jobs.

        Hydra only warns when a callback raises, hence the exit.
        """
        from stages.sweeping.progress import Progress, foresee

        try:
            settings = _settings(config)
            check_goals(settings.goals, str(config.task.name))
            _check_overrides(config.hydra.overrides.task)
            _name_what_is_left_out(config.hydra.overrides.task)
            directory = Path(config.hydra.sweep.dir).resolve()
            ledger = Ledger(directory)
            if settings.retry_failed:
                ledger.forget_failures()
            workspace.sweep_out(ROOT, directory)
            revision = git.snapshot(ROOT)
            git.run(ROOT, "update-ref", f"refs/sweeps/{settings.name}", revision)  # or git would collect it
            write_json(
                directory / "sweep.json",
                {
                    "baseline": git.run(ROOT, "rev-parse", "HEAD"),
                    "command": shlex.join(["python", "-m", "stages.sweep", *config.hydra.overrides.task]),
                    "revision": revision,
                    "settings": settings.model_dump(mode="json"),
                },
            )
        except TinsmithError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(1) from error
        self.directory, self.settings, self.started = directory, settings, time.monotonic()
        self.progress = Progress(ledger, *foresee(config), sys.stderr)
        self.progress.start()

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Write and print what was found; exit 1 when a job failed."""
        try:
            self.progress.stop()
            failed = self._sum_up(self.progress.records(), facts(str(config.task.name)).PRIMARY)
        except Exception as error:  # of which Hydra would make a warning
            traceback.print_exc()
            raise SystemExit(1) from error
        if failed:
            raise SystemExit(1)

    def _sum_up(self, records: list[dict[str, Any]], primary: Primary) -> bool:
        from stages.sweeping import summary

        summary.write(self.directory, self.settings, Ledger(self.directory).records(), primary)
        summary.show(self.directory, records, self.progress.varied, time.monotonic() - self.started)
        workspace.sweep_out(ROOT, self.directory)
        return any(record["state"] == "failed" for record in records)


def _settings(config: DictConfig) -> Sweep:
    plain = OmegaConf.to_container
    return read(plain(config.sweep, resolve=True), plain(config.devices, resolve=True))


def check_goals(goals: Sequence[str], task: str) -> None:
    """Refuse to search for what says how good models of another task are: no variant has it.

    Args:
        goals: axes of the front.
        task: what is swept.

    Raises:
        ConfigError: names the goal and what this task is judged by.
    """
    own = facts(task).PRIMARY.metric
    foreign = {facts(name).PRIMARY.metric: name for name in tasks.names()}
    for goal in goals:
        if goal != own and goal in foreign:
            option = task if (ROOT / "conf/sweep" / f"{task}.yaml").is_file() else "default"
            raise ConfigError(
                f"sweep.goals has '{goal}', which task {foreign[goal]} has and {task} has not",
                expected=f"{own}, how good its models are",
                next_step=f"sweep={option}, or sweep.goals=[…]",
            )


def _check_overrides(overrides: Sequence[str]) -> None:
    if any(override.lstrip("+~").startswith("variant=") for override in overrides):
        raise ConfigError(
            "a sweep crosses compression × target × precision; `variant` is not for choosing there",
            expected="e.g. `compression=none,pruned target=onnx-cpu precision=fp32,dynamic_wi8_afp32`",
        )


def _name_what_is_left_out(given: Sequence[str]) -> None:
    """Say which overrides of params.yaml a sweep, which composes conf/ for itself, does not have."""
    path = ROOT / params.PARAMS_FILE
    recorded = overrides.recorded(params.read(path)) if path.is_file() else []
    missing = [entry for entry in recorded if entry not in given and not entry.startswith("variant=")]
    if missing:
        print(f"not in this sweep, but in params.yaml: {overrides.quoted(missing)}", file=sys.stderr)
