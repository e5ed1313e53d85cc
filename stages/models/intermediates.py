"""What every module of a reference computes on one input, for finding where an artifact departs from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def module_outputs(model: torch.nn.Module, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Run a model and keep the output of each module that returns a tensor.

    Args:
        model: in eval mode.
        inputs: arguments by name; integers become int64.

    Returns:
        Module path → output. Modules called more than once (layers that share weights) are left out, since one path
        then stands for several values.
    """
    kept: dict[str, list[torch.Tensor]] = {}
    hooks = [module.register_forward_hook(_keeper(path, kept)) for path, module in model.named_modules() if path]
    try:
        with torch.no_grad():
            model(**{name: torch.from_numpy(np.asarray(value)).long() for name, value in inputs.items()})
    finally:
        for hook in hooks:
            hook.remove()
    return {path: values[0].numpy() for path, values in kept.items() if len(values) == 1}


def _keeper(path: str, kept: dict[str, list[torch.Tensor]]) -> Any:
    def keep(module: torch.nn.Module, arguments: Any, output: Any) -> None:  # noqa: ARG001 (torch's signature)
        if isinstance(output, torch.Tensor):
            kept.setdefault(path, []).append(output.clone())

    return keep
