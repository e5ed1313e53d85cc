"""Round weights and activations in training as a target will, with gradients that pass straight through.

torchao's fake quantisers were not taken: their symmetric grids are −8…7 in steps of max/7.5 (the targets': −7…7 in
steps of max/7) and none has one scale for a whole tensor, so that what they train would be rounded once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from stages.models.folded import norm_gains

BLOCK = 32
# Of a range towards a batch's: what an observer knows is mostly younger than a hundred batches, and as wide as a batch.
MOMENTUM = 0.01


@dataclass(frozen=True)
class Grid:
    """What an artifact rounds, and to what.

    Attributes:
        weight_bits: of every linear layer and lookup table.
        granularity: weights that share a scale: all, those of an output (of a table: a row), or 32 of an output.
        pairwise: whether the scale of a linear layer's weights is long enough for two neighbours together: the sum of
            any two of one sign that one output reads from inputs 2k and 2k + 1.
        norms_folded: whether a normalisation's gain is multiplied into the linear layers that read it before they
            are rounded.
        activation_bits: of what enters a linear layer, None to leave it in float.
    """

    weight_bits: int
    granularity: Literal["tensor", "channel", "block_32"]
    pairwise: bool
    norms_folded: bool
    activation_bits: int | None


def round_between(values: Tensor, low: Tensor, high: Tensor, steps: int) -> Tensor:
    """Round to the nearest of `steps + 1` numbers from `low` to `high`, shifted so that zero is one; clip the rest.

    In gradients the rounding counts as the identity (Bengio, Léonard & Courville 2013). A step that comes from
    learned values then gets the gradient of Learned Step Size Quantization (Esser et al. 2020).

    Args:
        values: of any shape.
        low: at most zero; broadcasts.
        high: at least zero; broadcasts. Where it equals `low`, the values pass as they are.
        steps: from `low` to `high`.
    """
    flat = high == low
    step = torch.where(flat, 1.0, high - low) / steps
    zero = torch.round(-low / step).detach()
    exact = values / step
    rounded = exact + (torch.round(exact) - exact).detach()
    return torch.where(flat, values, torch.clamp(rounded, -zero, steps - zero) * step)


class RoundedWeight(nn.Module):
    """Parametrises a weight: learned in fp32, used as the artifact will store it, symmetric around zero."""

    kept: Tensor

    def __init__(self, weight: Tensor, grid: Grid, *, pairwise: bool, gain: Tensor | None) -> None:
        """Prepare to round one weight.

        Args:
            weight: [outputs, inputs] as it is; zeros in it, such as a pruning left, stay.
            grid: bits and granularity.
            pairwise: for this weight.
            gain: [inputs] that the target multiplies in first, or None.
        """
        super().__init__()
        self.grid, self.pairwise, self.gain = grid, pairwise, gain
        self.register_buffer("kept", weight != 0)

    def forward(self, weight: Tensor) -> Tensor:
        """Return [outputs, inputs] on the grid."""
        weight = weight * self.kept
        if self.gain is None:
            return self._round(weight)
        gain = torch.where(self.gain == 0, 1.0, self.gain).detach()
        return self._round(weight * gain) / gain

    def _round(self, weight: Tensor) -> Tensor:
        groups = self._groups(weight)
        reach = _reach(groups, self.pairwise)
        rounded = round_between(groups, -reach, reach, 2**self.grid.weight_bits - 2)
        return rounded.reshape(len(weight), -1)[:, : weight.shape[1]]

    def _groups(self, weight: Tensor) -> Tensor:
        width = BLOCK if self.grid.granularity == "block_32" else 2
        padded = nn.functional.pad(weight, (0, -weight.shape[1] % width))
        match self.grid.granularity:
            case "tensor":
                return padded.reshape(1, -1)
            case "channel":
                return padded
            case "block_32":
                return padded.reshape(-1, BLOCK)


def _reach(groups: Tensor, pairwise: bool) -> Tensor:
    """Return what the largest integer stands for in each group [groups, even], as [groups, 1]."""
    if not pairwise:
        return groups.abs().amax(1, keepdim=True)
    pairs = groups.unflatten(1, (-1, 2))
    sums = torch.maximum(pairs.clamp(min=0).sum(2), (-pairs).clamp(min=0).sum(2))
    return sums.amax(1, keepdim=True)


class RoundedInput(nn.Module):
    """Rounds what enters a layer, between moving averages of the batches' smallest and largest values."""

    low: Tensor
    high: Tensor

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.steps = 2**bits - 1
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    def forward(self, values: Tensor) -> Tensor:
        """Return the values rounded; as they are until the first batch of training has given a range."""
        if self.training:
            share = MOMENTUM if self.high > self.low else 1.0
            self.low.lerp_(values.detach().amin().clamp(max=0), share)
            self.high.lerp_(values.detach().amax().clamp(min=0), share)
        return round_between(values, self.low, self.high, self.steps)


@contextmanager
def rounding(model: Any, grid: Grid) -> Iterator[None]:
    """Round every linear layer and lookup table inside the block; after it the weights lie on the grid for good.

    Rounding a weight on its grid changes nothing: a target finds the very integers in the plain checkpoint.

    Args:
        model: classifier in eval mode; its modules and the names of its weights are afterwards what they were.
        grid: the artifact's.

    Raises:
        Unsupported: norms are folded, and a layer reads more than one: no weight lies on two grids.
    """
    gains = norm_gains(model) if grid.norms_folded else {}
    layers = [module for module in model.modules() if isinstance(module, nn.Embedding | nn.Linear)]
    hooks = []
    for layer in layers:
        linear = isinstance(layer, nn.Linear)
        rounded = RoundedWeight(layer.weight.data, grid, pairwise=grid.pairwise and linear, gain=gains.get(layer))
        parametrize.register_parametrization(layer, "weight", rounded)
        if linear and grid.activation_bits:
            layer.rounded_input = RoundedInput(grid.activation_bits).train(layer.training)
            hooks.append(layer.register_forward_pre_hook(_round_input))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer in layers:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
            layer._modules.pop("rounded_input", None)


def _round_input(layer: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (layer.rounded_input(inputs[0]), *inputs[1:])
