"""OmegaConf resolvers for conf/config.yaml; Hydra imports this module wherever the configuration is composed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from stages.schema import plan

CONF = Path(__file__).resolve().parent.parent / "conf"


def _conf_digest() -> str:
    return plan.conf_digest(CONF)


def _plan(*, _root_: DictConfig) -> DictConfig:
    groups = ("data", "teacher", "compressions", "variants", "gate")
    tree: dict[str, Any] = {name: OmegaConf.to_container(_root_[name]) for name in groups if name in _root_}
    return OmegaConf.create(plan.derive(tree))


def _params_digest(*, _root_: DictConfig) -> str:
    others = [str(name) for name in _root_ if name != "params_digest"]
    return plan.params_digest({name: _plain(_root_[name]) for name in others})


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


OmegaConf.register_new_resolver("tinsmith.conf_digest", _conf_digest, replace=True)
OmegaConf.register_new_resolver("tinsmith.plan", _plan, replace=True)
OmegaConf.register_new_resolver("tinsmith.params_digest", _params_digest, replace=True)
