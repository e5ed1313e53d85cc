"""What sweeps add to Hydra: the crossing of compressions, targets and precisions, and a sweeper on current Optuna.

hydra-optuna-sweeper 1.3 pins Optuna 2, whose storage does not work with current SQLAlchemy, so it can resume nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from stages.sweeping.cross import cross


def _cross(*, _root_: DictConfig) -> DictConfig:
    groups = ("compressions", "targets", "precisions")
    tree: dict[str, Any] = {
        name: OmegaConf.to_container(_root_[name], resolve=True) for name in groups if name in _root_
    }
    return OmegaConf.create(cross(tree))


OmegaConf.register_new_resolver("tinsmith.cross", _cross, replace=True)


# Its settings stand in conf/sweep, beside the goals.
ConfigStore.instance().store(
    group="hydra/sweeper",
    name="tinsmith",
    node={"_target_": "hydra_plugins.tinsmith_sweep.TinsmithSweeper"},
    provider="tinsmith",
)


class TinsmithSweeper(Sweeper):
    """Ask Optuna what to try, let the launcher try it, tell Optuna what came of it."""

    launcher: Launcher
    config: DictConfig

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take up the launcher that the configuration names."""
        from hydra.core.plugins import Plugins

        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run trials until as many have ended as were asked for, those of earlier starts included."""
        from hydra.core.override_parser.overrides_parser import OverridesParser

        from stages.sweeping import search
        from stages.sweeping.settings import read

        plain = OmegaConf.to_container
        settings = read(plain(self.config.sweep, resolve=True), plain(self.config.devices, resolve=True))
        overrides = OverridesParser.create().parse_overrides(arguments)
        started = 0

        def launch(batch: list[list[str]]) -> list[dict[str, Any]]:
            nonlocal started
            self.validate_batch_is_legal(batch)
            returns = self.launcher.launch(batch, initial_job_idx=started)
            started += len(batch)
            return [dict(entry.return_value) for entry in returns]

        search.run(settings, overrides, Path(self.config.hydra.sweep.dir).resolve(), launch)
