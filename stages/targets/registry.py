"""Find a target's modules by its name; the only place that knows where they lie."""

from __future__ import annotations

import importlib
from types import ModuleType

from stages.core.names import module_name


def load(target: str, part: str) -> ModuleType:
    """Import one part of a target: `convert`, `quantize`, `runtime` or `weights`, and nothing else of it."""
    return importlib.import_module(f"stages.targets.{module_name(target)}.{part}")
