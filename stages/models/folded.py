"""Find the linear layers that read a normalisation as it is: a converter may multiply its gain into their weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stages.core.errors import Unsupported


def norm_gains(model: Any) -> dict[nn.Module, Tensor]:
    """Map every such layer to the gain, [inputs].

    Args:
        model: classifier in eval mode.

    Raises:
        Unsupported: a layer reads several normalisations, or one in one place and something else in another.
    """
    made: dict[int, tuple[Tensor, nn.Module]] = {}  # tensors kept alive: a freed one's id may be given to another
    read: dict[nn.Module, set[nn.Module | None]] = {}

    def leaving(norm: nn.Module, _: Any, output: Tensor) -> None:
        made[id(output)] = output, norm

    def entering(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        norm = made[id(inputs[0])][1] if id(inputs[0]) in made else None
        read.setdefault(layer, set()).add(norm)

    hooks = [
        module.register_forward_pre_hook(entering)
        if isinstance(module, nn.Linear)
        else module.register_forward_hook(leaving)
        for module in model.modules()
        if isinstance(module, nn.Linear) or _is_norm(module)
    ]
    ids = torch.ones((1, 2), dtype=torch.int64)
    try:
        with torch.no_grad():
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    finally:
        for hook in hooks:
            hook.remove()
    names = {module: name for name, module in model.named_modules()}
    for layer, norms in read.items():
        if len(norms) > 1:
            raise Unsupported(
                f"layer '{names[layer]}' is used more than once, behind different normalisations",
                expected="norms_folded: false, or a checkpoint that shares no layers",
            )
    return {layer: norm.weight for layer, (norm,) in read.items() if norm is not None}


def _is_norm(module: nn.Module) -> bool:
    """Tell a LayerNorm, or MobileBERT's NoNorm: a gain of one axis, and a bias or none."""
    found = {name: value.ndim for name, value in module.named_parameters(recurse=False)}
    return found in ({"weight": 1, "bias": 1}, {"weight": 1})
