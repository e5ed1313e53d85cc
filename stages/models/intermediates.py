"""Shows every value that a model computes, in order of execution, to a visitor that may put another in its place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Visitor = Callable[[str, torch.nn.Module | None, torch.Tensor], torch.Tensor | None]
"""Called with a value's name, the module whose output it is and the value; what it returns replaces the value."""


def visit(model: torch.nn.Module, inputs: Mapping[str, NDArray[Any]], visitor: Visitor) -> None:
    """Run a model on one input.

    Visited are the outputs of modules, under the module's path, and values that reach a module without being any
    module's output (a residual sum, what attention makes of its heads), as `input of PATH`, of no module. The second
    call of a module, as ALBERT's layers share theirs, is `PATH (call 2)`. Of a tuple, the first tensor is visited.

    Args:
        model: in eval mode.
        inputs: arguments by name; integers become int64.
        visitor: sees each floating-point value once, with gradients.
    """
    walk = _Walk(visitor)
    handles: list[Any] = []
    for path, module in model.named_modules():
        if path:
            handles.append(module.register_forward_pre_hook(walk.entering(path)))
            handles.append(module.register_forward_hook(walk.leaving(path)))
    try:
        model(**{name: torch.from_numpy(np.asarray(value)).long() for name, value in inputs.items()})
    finally:
        for handle in handles:
            handle.remove()


class _Walk:
    def __init__(self, visitor: Visitor) -> None:
        self._visitor = visitor
        self._calls: Counter[str] = Counter()
        # Kept alive: a freed tensor's id may be given to another.
        self._known: dict[int, torch.Tensor] = {}

    def entering(self, path: str) -> Any:
        def hook(module: Any, arguments: Any) -> Any:  # noqa: ARG001 (torch's signature)
            self._calls[path] += 1
            return self._shown(f"input of {self._name(path)}", None, arguments)

        return hook

    def leaving(self, path: str) -> Any:
        def hook(module: Any, arguments: Any, output: Any) -> Any:  # noqa: ARG001 (torch's signature)
            if isinstance(output, torch.Tensor):
                shown = self._shown(self._name(path), module, (output,))
                return shown and shown[0]
            return self._shown(self._name(path), module, output) if type(output) is tuple else None

        return hook

    def _name(self, path: str) -> str:
        return path if self._calls[path] == 1 else f"{path} (call {self._calls[path]})"

    def _shown(self, name: str, module: torch.nn.Module | None, values: tuple[Any, ...]) -> tuple[Any, ...] | None:
        first = values[0] if values else None
        if not isinstance(first, torch.Tensor) or not first.is_floating_point() or id(first) in self._known:
            return None
        replaced = self._visitor(name, module, first)
        shown = first if replaced is None else replaced
        self._known |= {id(first): first, id(shown): shown}
        return None if replaced is None else (replaced, *values[1:])
