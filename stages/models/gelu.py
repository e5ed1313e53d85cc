"""Find the GELUs of a model, approximate them, and write those of the tanh form out in operators that all have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import activations

from stages.core.errors import Unsupported
from stages.models.families import family_of
from stages.models.families.base import setting
from stages.models.reshape import replace_activations, replaced_activations

ERF: tuple[type, ...] = (activations.GELUActivation,)
TANH: tuple[type, ...] = (
    activations.AccurateGELUActivation,
    activations.FastGELUActivation,
    activations.GELUTanh,
    activations.NewGELUActivation,
)
SQUARE, CUBE = 1.5957691216057308, 0.07135481627159628
"""2·√(2/π), and 0.044715 times that."""


class FactoredGelu(torch.nn.Module):
    """The tanh form of GELU as x·σ(x·(1.596 + 0.0714·x²)), which is the same since (1 + tanh z) / 2 = σ(2z).

    Converters find ½x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) however it is written out and make one operator of it; this
    they leave alone. Source of the tanh form: Hendrycks & Gimpel, Gaussian Error Linear Units (2016).

    The class name enters tensor names, hence the bytes of every artifact: renaming is a rebuild.
    """

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the activation, shaped like the values."""
        return values * torch.sigmoid(values * (SQUARE + CUBE * (values * values)))


def find(model: torch.nn.Module, kinds: tuple[type, ...]) -> list[str]:
    """Name the modules that are a GELU of some classes, each under every path that leads to it."""
    return [path for path, module in model.named_modules(remove_duplicate=False) if isinstance(module, kinds)]


def factor(model: torch.nn.Module) -> bool:
    """Put `FactoredGelu` in the place of every tanh GELU; the answers stay what they are.

    Returns:
        Whether no GELU is left: one with an error function cannot be written out in what accelerators have.
    """
    for path in find(model, TANH):
        model.set_submodule(path, FactoredGelu())
    return not find(model, ERF)


def approximate(model: Any, by: str) -> list[str]:
    """Put an approximation in the place of every GELU, and record it in the config.

    What the config's own field describes is said there; other modules, such as one in a head, are recorded beside it.

    Args:
        model: a Hugging Face model, changed in place.
        by: the approximation, as transformers calls it.

    Returns:
        Paths of the modules.

    Raises:
        Unsupported: the model has none that this would approximate, or the family's cannot have this activation.
    """
    family, config = family_of(model.config), model.config
    paths = find(model, ERF if isinstance(activations.ACT2FN[by], TANH) else ERF + TANH)
    field = family.activation
    if not paths:
        raise Unsupported(
            f"the checkpoint has no GELU that {by} approximates: its activation is '{setting(config, field)}'",
            next_step="choose variants without this compression",
        )
    rule = family.rules[field]
    if not rule.fits(by):
        raise Unsupported(f"a '{family.name}' cannot have the activation '{by}'", expected=rule.expected)
    setattr(config, field, by)
    described = _described(model)
    replace_activations(model, dict.fromkeys(paths, by))
    config.replaced_activations = {
        path: name
        for path, name in replaced_activations(config).items()
        if not isinstance(described[path], type(activations.ACT2FN[name]))
    }
    return paths


def _described(model: Any) -> Mapping[str, torch.nn.Module]:
    """Return the modules of the model that the config alone describes."""
    with torch.device("meta"):  # shapes and no memory
        plain = type(model)._from_config(model.config, attn_implementation="eager")
    return dict(plain.named_modules(remove_duplicate=False))
