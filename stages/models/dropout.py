"""Drop hidden states while a model trains, whatever its family drops by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from stages.models.families import family_of

# Shares that modules of decoders drop without a module for it.
DROPPING = ("dropout", "attention_dropout", "activation_dropout", "layerdrop")


@contextmanager
def dropping(model: Any, rate: float) -> Iterator[None]:
    """Drop a share of the hidden states while a model trains, and of the attention weights none.

    Args:
        model: a Hugging Face model, afterwards as it was.
        rate: of what is dropped.
    """
    with _by_modules(model, rate), _of_branches(model, rate):
        yield


@contextmanager
def _of_branches(model: Any, rate: float) -> Iterator[None]:
    """Drop some of what layers add to what they were given, where no module does, and nothing that they drop alone."""
    branches = tuple(f".{branch}" for branch in family_of(model.config).branches)
    numbers = {
        (module, name): vars(module)[name]
        for module in (model.modules() if branches else ())
        for name in DROPPING
        if isinstance(vars(module).get(name), int | float)
    }

    def drop(module: torch.nn.Module, _: Any, given: Any) -> Any:
        first, *rest = given if isinstance(given, tuple) else (given,)
        dropped = torch.nn.functional.dropout(first, rate, module.training)
        return (dropped, *rest) if isinstance(given, tuple) else dropped

    found = [module for name, module in model.named_modules() if branches and name.endswith(branches)]
    hooks = [module.register_forward_hook(drop) for module in found]
    for module, name in numbers:
        setattr(module, name, 0.0)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for (module, name), number in numbers.items():
            setattr(module, name, number)


@contextmanager
def _by_modules(model: Any, rate: float) -> Iterator[None]:
    # Attention weights are never dropped. On the embedded teacher that made no difference beyond the seed's (94.0 %
    # off; 94.7 and 93.9 % on): it is one setting less.
    spared = f".{family_of(model.config).attention_dropout}"
    holder, _, attribute = spared.rpartition(".")
    numbers = {  # of modules that drop them without a module for it
        module: getattr(module, attribute)
        for name, module in model.named_modules()
        if name.endswith(holder) and isinstance(getattr(module, attribute), int | float)
    }
    modules = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Dropout)}
    before = {name: module.p for name, module in modules.items()}
    for name, module in modules.items():
        module.p = 0.0 if name.endswith(spared) else rate
    for module in numbers:
        setattr(module, attribute, 0.0)
    try:
        yield
    finally:
        for name, module in modules.items():
            module.p = before[name]
        for module, number in numbers.items():
            setattr(module, attribute, number)
