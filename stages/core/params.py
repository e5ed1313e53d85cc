"""Typed, validated slices of params.yaml; the same models validate conf/ when it is composed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from stages.core.errors import ConfigError

PARAMS_FILE = Path("params.yaml")


class Section(BaseModel):
    """A group of settings: frozen, no unknown keys, no silent conversions, no defaults in code."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


S = TypeVar("S", bound=Section)


if TYPE_CHECKING:
    from yaml import SafeLoader as Safe
else:
    Safe = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(Safe):
    """Reads numbers as YAML 1.2 and DVC do: PyYAML, of version 1.1, takes `1e-06`, which DVC writes, for text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse_yaml(text: str | bytes) -> Any:
    """Read YAML as plain values.

    Raises:
        yaml.YAMLError: it is none.
    """
    return yaml.load(text, Loader=_Loader)  # noqa: S506 (it is a safe one)


def read(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """Read params.yaml as plain values.

    Raises:
        ConfigError: the file is missing or not a YAML mapping.
    """
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        reason = str(error).replace("\n", " ")
        raise ConfigError(f"cannot read '{path}': {reason}", next_step="run `python -m stages.compose`") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"'{path}' is not a mapping", next_step="run `python -m stages.compose`")
    return tree


def select(tree: Mapping[str, Any], dotted: str) -> Any:
    """Return the value at `a.b.c`.

    Raises:
        ConfigError: a key on the way is missing; the message lists the keys that exist.
    """
    node: Any = tree
    for key in dotted.split("."):
        if not isinstance(node, Mapping) or key not in node:
            choices = ", ".join(map(str, node)) if isinstance(node, Mapping) else "nothing"
            raise ConfigError(f"params.yaml has no '{dotted}'", expected=f"one of: {choices}")
        node = node[key]
    return node


def parse(model: type[S], value: Any, where: str) -> S:
    """Validate a plain value against a section.

    Args:
        model: the section's type.
        value: plain YAML values.
        where: dotted path of `value`, for messages.

    Raises:
        ConfigError: names the first offending key, what stands there and what was expected.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ConfigError(_explain(model, error, where, value)) from error


def load(model: type[S], fields: Mapping[str, str], path: Path = PARAMS_FILE) -> S:
    """Build a stage's parameters from params.yaml.

    Args:
        model: the stage's `Params`.
        fields: field name → dotted path in params.yaml.
        path: the file to read.
    """
    tree = read(path)
    return parse(model, {name: select(tree, dotted) for name, dotted in fields.items()}, str(path))


def _explain(model: type[Section], error: ValidationError, where: str, value: Any) -> str:
    first = error.errors()[0]
    place, beside = _place(first["loc"], value, missing=first["type"] == "missing")
    place = ".".join(part for part in (where, place) if part)
    if first["type"] == "extra_forbidden":
        known = ", ".join(beside or model.model_fields)
        return f"unknown key '{place}'; expected a key of the schema ({known})"
    if first["type"] == "missing":
        return f"missing key '{place}'; expected a value for it in conf/"
    if first["type"] == "value_error":
        return f"'{place}': {first['ctx']['error']}" if place else str(first["ctx"]["error"])
    message = first["msg"][0].lower() + first["msg"][1:]
    return f"'{place}' is {first['input']!r}; expected: {message}"


def _place(location: tuple[int | str, ...], value: Any, *, missing: bool) -> tuple[str, list[str]]:
    """Return pydantic's location as a key of YAML, and the keys beside it.

    Pydantic puts the kind that it took (`student.shape.heads`) where YAML has no level.
    """
    parts, beside = [], []
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if isinstance(value, Mapping) and (part in value or (missing and last)):
            beside = [str(key) for key in value if key != part]
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            continue
        parts.append(str(part))
    return ".".join(parts), beside
