"""Check a whole configuration: its groups against each other, its variants against their targets, its gate its task."""

from __future__ import annotations

from stages.core.errors import ConfigError, Unsupported
from stages.measure.registry import REGISTRY
from stages.schema import config
from stages.schema.model import CheckpointTeacher
from stages.schema.variant import SourceBlocks
from stages.targets.facts import facts
from stages.tasks import names
from stages.tasks.facts import facts as of_task

GGUF = ".gguf"


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
        if isinstance(chosen.precisions[variant.precision], SourceBlocks):
            _check_source(chosen, key, variant.compression)


def _check_source(chosen: config.Config, key: str, compression: str) -> None:
    """Refuse a precision that keeps the teacher's file where there is none, or its weights change on their way."""
    teacher = chosen.teacher
    path = teacher.path if isinstance(teacher, CheckpointTeacher) else ""
    found = [
        f"teacher.path is '{path}'" if path else f"teacher.kind is '{teacher.kind}'",
        f"student.kind is {chosen.student.kind}",
        f"its compression is '{compression}'",
    ]
    sound = (
        path.endswith(GGUF),
        chosen.student.kind == "none",
        chosen.compressions[compression].kind == "none",
    )
    wrong = [line for line, holds in zip(found, sound, strict=True) if not holds]
    if wrong:
        raise ConfigError(
            f"variant '{key}' keeps weights as the teacher's file holds them, and {wrong[0]}",
            expected=f"teacher=checkpoint teacher.path=FILE{GGUF} student=none, and compression none",
            next_step="choose another precision",
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
