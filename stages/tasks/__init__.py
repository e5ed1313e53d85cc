"""What models are for: one package per task, whose name stands in conf/task and in every signature."""

from __future__ import annotations

from pkgutil import iter_modules

from stages.core.names import module_name


def names() -> list[str]:
    """Name all tasks, as conf/task does."""
    return sorted(module.name.replace("_", "-") for module in iter_modules(__path__) if module.ispkg)


def folder(name: str) -> str:
    """Name the package of a task."""
    return module_name(name)
