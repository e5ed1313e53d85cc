"""The families of encoders Tinsmith takes in, each described whole by the module that is called as it is."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from functools import cache
from pkgutil import iter_modules
from typing import Any

from stages.core.errors import InputError, Unsupported
from stages.core.names import module_name
from stages.models.families.base import Family, setting

CAUSAL = "ForCausalLM"
"""What the class of a decoder's name ends with; no encoder has such a head."""
PARTS = ("base", "decoder")
"""Modules here that are no family: what families are said in."""


def names() -> list[str]:
    """Name all families, as `model_type` of a config does."""
    return sorted(module.name.replace("_", "-") for module in iter_modules(__path__) if module.name not in PARTS)


def encoders() -> list[str]:
    """Name those that read a whole text at once; the others continue one."""
    return [name for name in names() if find(name).decoder is None]


def with_head(head: str) -> list[str]:
    """Name those whose models may have a head: what the name of its class in transformers ends with."""
    return encoders() if head != CAUSAL else sorted({*names()} - {*encoders()})


def check_offered(family: Family, needs: Iterable[str], compression: str) -> None:
    """Refuse a compression that takes from a family's models what they cannot give.

    Args:
        family: of the checkpoint.
        needs: what the compression takes.
        compression: its name or kind, for the message.

    Raises:
        Unsupported: names what is missing, and why.
    """
    for need in needs:
        if need in family.withheld:
            raise Unsupported(
                f"compression '{compression}' takes {need}, which no '{family.name}' gives: {family.withheld[need]}",
                next_step="choose variants with another compression, or none",
            )


def family_of(config: Any) -> Family:
    """Return the family of a checkpoint.

    Args:
        config: its config, or the content of its config.json.

    Raises:
        InputError: it is none of `names`.
    """
    return find(setting(config, "model_type"))


def find(name: Any) -> Family:
    """Return the family of a name.

    Raises:
        InputError: it is none of `names`.
    """
    if name not in names():
        raise InputError(f"the checkpoint is of family '{name}'", expected=f"one of: {', '.join(names())}")
    return _load(name)


@cache
def _load(name: str) -> Family:
    found: Family = importlib.import_module(f"stages.models.families.{module_name(name)}").FAMILY
    return found
