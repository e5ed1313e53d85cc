"""OmegaConf resolvers for conf/config.yaml; Hydra imports this module wherever the configuration is composed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from stages.core import plan

CONF = Path(__file__).resolve().parent.parent / "conf"


def _conf_digest() -> str:
    return plan.conf_digest(CONF)


def _plan(*, _root_: DictConfig) -> DictConfig:
    groups = ("data", "teacher", "compressions", "variants")
    tree: dict[str, Any] = {name: OmegaConf.to_container(_root_[name]) for name in groups if name in _root_}
    return OmegaConf.create(plan.derive(tree))


OmegaConf.register_new_resolver("tinsmith.conf_digest", _conf_digest, replace=True)
OmegaConf.register_new_resolver("tinsmith.plan", _plan, replace=True)
