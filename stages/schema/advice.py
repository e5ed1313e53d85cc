"""Which key or option of conf/ an override meant that fits none: the nearest one, at the right level."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.core.errors import ConfigError
from stages.core.params import parse_yaml
from stages.schema import naming
from stages.schema.naming import options
from stages.schema.overrides import DERIVED

MANY = 4


def check(overrides: Sequence[Any], conf: Path, composed: Mapping[str, Any] | None) -> None:
    """Refuse the first override that fits nothing.

    Args:
        overrides: as Hydra parsed them.
        conf: directory of the configuration.
        composed: conf/ with those groups chosen that are sound. None asks what needs none: Hydra itself refuses keys
            that conf/ lacks, and composing takes longer than all else.

    Raises:
        ConfigError: names what was probably meant.
    """
    for override in overrides:
        name, value = str(override.key_or_group), override.value()
        if "@" in override.get_key_element() or name.partition(".")[0] in (*DERIVED, "hydra"):
            raise ConfigError(f"'{override.input_line}' cannot be set", expected="a key of conf/ that a build reads")
        if name in groups(conf) and not isinstance(value, dict):
            _check_choice(override, conf)
        elif name.endswith(".kind"):
            raise ConfigError(
                f"'{name}' follows from what is chosen", expected=f"e.g. `{name.partition('.')[0]}=OPTION`"
            )
        elif composed is not None and not (override.is_add() or override.is_force_add()):
            inside = [f"{name}.{key}" for key in value] if isinstance(value, dict) and _has(composed, name) else [name]
            for key in inside:
                if not _has(composed, key):
                    raise _unknown(key, conf, composed)


def sound(overrides: Sequence[Any], conf: Path) -> list[str]:
    """Return the choices of groups among overrides that conf/ has."""
    chosen = []
    for override in overrides:
        if override.get_key_element() in groups(conf) and not isinstance(override.value(), dict):
            try:
                _check_choice(override, conf)
            except ConfigError:
                continue
            chosen.append(str(override.input_line))
    return chosen


def groups(conf: Path) -> list[str]:
    """Return the groups of conf/ that a build has."""
    return sorted(path.name for path in conf.iterdir() if path.is_dir() and path.name != "sweep")


def no_option(conf: Path, group: str, name: str) -> ConfigError:
    """Say of a name that a group has not which are its nearest."""
    known = _known(conf, group)
    expected = f"one of: {', '.join(known)}{_nearest(name, known)}"
    if group == "variant":
        near = difflib.get_close_matches(name, known, n=MANY)
        expected = f"{naming.RULE}{f' (nearest: {_either(near)})' if near else ''}"
    return ConfigError(f"conf/{group} has no '{name}'", expected=expected)


def _known(conf: Path, group: str) -> list[str]:
    named = naming.variants(conf) if group == "variant" else ()
    return sorted({*options(conf, group), *named})


def _check_choice(override: Any, conf: Path) -> None:
    group, value, known = str(override.key_or_group), _chosen(override), _known(conf, str(override.key_or_group))
    if override.is_delete() or override.is_add() or override.is_force_add():
        raise ConfigError(
            f"'{override.input_line}': group '{group}' is always there, once", expected=f"`{group}=…`: {_few(known)}"
        )
    if isinstance(value, list) and not override.is_sweep_override() and not _is_several(conf, group):
        raise ConfigError(f"'{override.input_line}': one option of '{group}' is chosen", expected=_few(known))
    for name in value if isinstance(value, list) else [value]:
        if str(name) not in known:
            raise no_option(conf, group, str(name))


def _chosen(override: Any) -> Any:
    """Return what is chosen; of a sweep all that will be, as far as that is a list."""
    if not override.is_sweep_override():
        return override.value()
    return list(override.sweep_string_iterator()) if override.is_choice_sweep() else []


def _unknown(name: str, conf: Path, composed: Mapping[str, Any]) -> ConfigError:
    first, _, inside = name.partition(".")
    holders = [option for option in options(conf, first) if inside in _keys(_own(conf, first, option))]
    if holders:
        has = ", ".join(composed.get(first) or ())
        return ConfigError(
            f"'{name}' is a key of {_either(f'{first}={option}' for option in holders)}, which is not chosen",
            expected=f"one of its own keys ({has}), or `{first}={holders[0]} {name}=…`",
        )
    group, option = first.removesuffix("s"), inside.partition(".")[0]
    if _is_several(conf, group) and option in _known(conf, group) and not _has(composed, f"{group}s.{option}"):
        return ConfigError(f"{group} '{option}' is not chosen", expected=f"'{option}' in the list `{group}=[…]`")
    keys = list(_keys(composed))
    # The same words with a level left out come before a likeness of letters.
    found = [key for key in keys if _is_within(name.split("."), key.split("."))]
    found = sorted(found or [key for key in keys if inside and key.endswith(f".{inside}")], key=_level)
    if not found:
        elsewhere = [
            f"{group}.{key}"
            for group in groups(conf)
            for option in options(conf, group)
            for key in _keys(_own(conf, group, option))
        ]
        found = difflib.get_close_matches(name, dict.fromkeys([*keys, *groups(conf), *elsewhere]), n=3, cutoff=0.7)
    beside = [key for key in keys if key.rpartition(".")[0] == first]
    return ConfigError(
        f"conf/ has no key '{name}'",
        expected=_few(found) if found else _few(beside or sorted({*composed} - {*DERIVED})),
        next_step="a key that conf/ lacks cannot be added" if not found else "",
    )


def _is_several(conf: Path, group: str) -> bool:
    """Whether a group's options are chosen together, each under its own name."""
    first = next(iter(sorted((conf / group).glob("*.yaml"))), None) if group in groups(conf) else None
    return first is not None and first.read_text(encoding="utf-8").startswith(f"# @package {group}s.")


def _own(conf: Path, group: str, option: str) -> Mapping[str, Any]:
    """Keys that an option's file has itself, or inherits from the options it names first."""
    text = (conf / group / f"{option}.yaml").read_text(encoding="utf-8")
    tree = parse_yaml(text) or {}
    if text.partition("\n")[0] != f"# @package {group}" or not isinstance(tree, dict):
        return {}  # an experiment, or one of several that are chosen together
    bases = [_own(conf, group, base) for base in tree.pop("defaults", []) if base in options(conf, group)]
    return {key: value for part in [*bases, tree] for key, value in part.items()}


def _keys(tree: Any, prefix: str = "") -> Iterable[str]:
    for key, value in tree.items() if isinstance(tree, Mapping) else ():
        if not prefix and key in DERIVED:
            continue
        yield f"{prefix}{key}"
        yield from _keys(value, f"{prefix}{key}.")


def _has(tree: Any, name: str) -> bool:
    for part in name.split("."):
        if isinstance(tree, Mapping) and part in tree:
            tree = tree[part]
        elif isinstance(tree, list) and part.isdigit() and int(part) < len(tree):
            tree = tree[int(part)]
        else:
            return False
    return True


def _is_within(parts: Sequence[str], whole: Sequence[str]) -> bool:
    """Whether `parts` are some of `whole`, in order, the last one last."""
    rest = iter(whole)
    return bool(parts) and parts[-1] == whole[-1] and all(part in rest for part in parts)


def _nearest(name: str, known: Sequence[str]) -> str:
    found = difflib.get_close_matches(name, known, n=1)
    return f" (nearest: {found[0]})" if found and len(known) > 1 else ""


def _few(names: Sequence[str]) -> str:
    more = [f"{len(names) - MANY} more"] if len(names) > MANY else []
    return _either([*(f"'{name}'" for name in names[:MANY]), *more])


def _level(name: str) -> int:
    return name.count(".")


def _either(names: Iterable[str]) -> str:
    return " or ".join(names)
