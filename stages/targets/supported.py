"""Check a whole configuration: its groups against each other, its variants against their targets, its gate its task."""

from __future__ import annotations

from stages.core.errors import ConfigError, Unsupported
from stages.measure.registry import REGISTRY
from stages.schema import config
from stages.targets.facts import facts
from stages.tasks import names
from stages.tasks.facts import facts as of_task


def check(chosen: config.Config) -> None:
    """Refuse a configuration that cannot be built.

    Raises:
        ConfigError: see `schema.config.check`; or there is no such task, or a gate asks how good another's models are.
        Unsupported: a precision the target cannot be lowered to; the message lists what it supports.
    """
    config.check(chosen)
    if chosen.task.name not in names():
        raise ConfigError(f"task.name is '{chosen.task.name}'", expected=f"one of: {', '.join(names())}")
    _check_gate(chosen)
    for key, variant in chosen.variants.items():
        target = facts(variant.target)
        if not target.supports(chosen.precisions[variant.precision]):
            raise Unsupported(
                f"variant '{key}': target '{variant.target}' cannot be lowered to precision '{variant.precision}'",
                expected=f"one of: {target.SUPPORTED}",
            )


def _check_gate(chosen: config.Config) -> None:
    quality = of_task(chosen.task.name).PRIMARY
    bounds = [*chosen.gate.reference, *chosen.gate.every]
    for variant in chosen.variants.values():
        bounds += chosen.gate.precisions[variant.precision]
    for metric in (bound.metric for bound in bounds):
        if REGISTRY[metric].group == "quality" and metric not in quality:
            raise ConfigError(
                f"conf/gate asks for '{metric}', which the task '{chosen.task.name}' does not measure",
                expected=f"of {', '.join(dict.fromkeys(name for name in quality if name in REGISTRY))}",
                next_step="choose the task's own gate, as in gate=generate",
            )
