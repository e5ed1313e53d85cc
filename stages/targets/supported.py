"""Check a whole configuration: its groups against each other, and its variants against what their targets support."""

from __future__ import annotations

from stages.core.errors import Unsupported
from stages.schema import config
from stages.targets.facts import facts


def check(chosen: config.Config) -> None:
    """Refuse a configuration that cannot be built.

    Raises:
        ConfigError: see `schema.config.check`.
        Unsupported: a precision the target cannot be lowered to; the message lists what it supports.
    """
    config.check(chosen)
    for key, variant in chosen.variants.items():
        target = facts(variant.target)
        if not target.supports(chosen.precisions[variant.precision]):
            raise Unsupported(
                f"variant '{key}': target '{variant.target}' cannot be lowered to precision '{variant.precision}'",
                expected=f"one of: {target.SUPPORTED}",
            )
