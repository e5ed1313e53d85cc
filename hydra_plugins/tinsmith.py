"""What Hydra needs for conf/config.yaml, in `stages.compose` and in `dvc exp run` alike; it imports this by itself.

Resolvers, and a loader that keeps overrides: Hydra offers no place to add some or to write down which there were, so
its loader is wrapped. Composition of anything else, sweeps too, goes by untouched.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

from hydra_plugins.tinsmith_variants import CONF, of_this_repository
from stages.core.errors import ConfigError
from stages.schema import advice, plan
from stages.schema import overrides as asked

PARAMS = CONF.with_name("params.yaml")
# Keys that a sweep has besides those of a build.
OF_SWEEPS = ("hydra", "sweep")
# DVC runs an experiment that is queued, or apart, in a directory of one of these.
APART = [CONF.parent / place for place in (".dvc/tmp/exps", ".dvc/tmp/exps/standalone")]


def _conf_digest() -> str:
    return plan.conf_digest(CONF)


def _plan(*, _root_: DictConfig) -> DictConfig:
    groups = ("task", "data", "teacher", "student", "transfer", "compressions", "variants", "gate")
    tree: dict[str, Any] = {name: OmegaConf.to_container(_root_[name]) for name in groups if name in _root_}
    return OmegaConf.create(plan.derive(tree))


def _params_digest(*, _root_: DictConfig) -> str:
    others = [str(name) for name in _root_ if name != "params_digest"]
    tree = {name: _plain(_root_[name]) for name in others if name != asked.KEY}
    # As text: whether it was resolved by now, and lost its escapes, depends on the order of keys.
    recorded: Any = OmegaConf.to_container(_root_, resolve=False)
    return plan.params_digest(tree | {asked.KEY: [entry.replace("\\${", "${") for entry in recorded[asked.KEY]]})


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


OmegaConf.register_new_resolver("tinsmith.conf_digest", _conf_digest, replace=True)
OmegaConf.register_new_resolver("tinsmith.plan", _plan, replace=True)
OmegaConf.register_new_resolver("tinsmith.params_digest", _params_digest, replace=True)


def _keeping(load: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
    """Wrap a loader so that the overrides of params.yaml come before those given, and stand in what is composed."""

    @wraps(load)
    def load_configuration(self: Any, config_name: str | None, overrides: list[str], **options: Any) -> DictConfig:
        if config_name not in ("config", "sweep") or not of_this_repository(self.config_search_path):
            return load(self, config_name=config_name, overrides=overrides, **options)
        compose = partial(load, self, config_name=config_name, **options)
        if config_name == "sweep":
            return _advised(compose, overrides, several=True)
        kept = asked.to_keep(PARAMS)
        wanted = asked.join(kept, overrides)
        if still := [entry for entry in wanted if entry in kept]:
            print(f"params.yaml keeps {asked.quoted(still)} (`python -m stages.compose` drops it)", file=sys.stderr)
        config = _advised(compose, wanted, several=False)
        with open_dict(config):
            _leave_out(config, wanted)
            config[asked.KEY] = [entry.replace("${", "\\${") for entry in wanted]
        if not asked.is_complete():
            _reach_from_apart(config.plan)
        return config

    return load_configuration


def _advised(compose: Callable[..., DictConfig], wanted: list[str], *, several: bool) -> DictConfig:
    """Compose, or say which key or option was meant.

    Raises:
        ConfigCompositionException: Hydra's own kind, which its command line prints without a traceback.
        ConfigError: instead, where `stages.compose` asks.
    """
    try:
        return compose(overrides=wanted)
    except HydraException:
        build = [entry for entry in wanted if not asked.key_of(entry).lstrip("+~").startswith(OF_SWEEPS)]
        try:
            parsed = asked.parsed(build if several else wanted, several=several)
            single = [one for one in parsed if not one.is_sweep_override()]
            tree: Any = OmegaConf.to_container(compose(overrides=advice.sound(single, CONF)))
            advice.check(parsed, CONF, tree)
        except ConfigError as error:
            if asked.is_complete():
                raise
            raise ConfigCompositionException(str(error)) from None  # DVC prints a cause as well
        raise


def _leave_out(config: DictConfig, wanted: list[str]) -> None:
    """Keep what variants name.

    Raises:
        ConfigError: an override is of something else, and would change nothing.
    """
    if asked.is_whole():
        plan.named(config)
        return
    gone = plan.leave_out(config)  # type: ignore[arg-type]
    for entry in wanted:
        key = asked.key_of(entry).lstrip("+~")
        if of := [name for name in gone if f"{key}.".startswith(f"{name}.")]:
            raise ConfigError(
                f"'{entry}' changes nothing: no variant names '{of[0].rpartition('.')[2]}'",
                expected="one that does in the list `variant=[…]`",
            )


def _reach_from_apart(plan: DictConfig) -> None:
    """Let `../x` mean from where DVC runs `exp run --queue` and `--temp` what it means from here."""
    for path in [*plan.data.values(), plan.teacher.source]:
        up, name = (*Path(path).parts, "", "")[:2]
        for link in [place / name for place in APART] if up == ".." and name not in ("", "..") else []:
            if not link.is_symlink() and not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(CONF.parent.parent / name)


if not hasattr(ConfigLoaderImpl.load_configuration, "__wrapped__"):
    ConfigLoaderImpl.load_configuration = _keeping(ConfigLoaderImpl.load_configuration)  # type: ignore[method-assign]
