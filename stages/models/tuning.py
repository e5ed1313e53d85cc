"""What training does otherwise with a pretrained model: rates by weight, half precision, the best epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from stages.models.objective import Objective
    from stages.schema.model import Training

# The instructions that multiply bf16: AMX and AVX-512 on x86, NEON's on ARM.
INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16")
BETAS = (0.9, 0.98)


@dataclass(frozen=True)
class Tuning:
    """How a model is trained; what is not said is as from scratch.

    Attributes:
        rates: name of a weight → its peak learning rate, 0 to leave it as it is; the training's own where none is said.
        bf16: whether products are computed in bf16 (weights, sums and their updates stay in fp32).
        keep_best: whether the weights of the epoch that is best on validation stay, not those of the last one.
        resume: directory that an interrupted training leaves its state in, and is taken up from; None for neither.
    """

    rates: Mapping[str, float] = field(default_factory=dict)
    bf16: bool = False
    keep_best: bool = False
    resume: Path | None = None


def bf16_is_faster() -> bool:
    """Whether this processor has instructions that multiply bf16.

    Where it has none, torch converts back and forth.
    """
    known = torch.cpu.get_capabilities()
    return any(known.get(name, False) for name in INSTRUCTIONS)


def adamw(objective: Objective, training: Training, rates: Mapping[str, float]) -> torch.optim.Optimizer:
    """Group the weights by rate, and by whether they decay; the training's own rate comes first."""
    own = {id(weight): rates.get(name, training.learning_rate) for name, weight in objective.model.named_parameters()}
    groups: dict[tuple[float, bool], list[Any]] = {}
    for weight in objective.parameters():
        if weight.requires_grad:
            groups.setdefault((own.get(id(weight), training.learning_rate), weight.ndim > 1), []).append(weight)
    found = [
        {"params": weights, "lr": rate, "weight_decay": training.weight_decay if decays else 0.0}
        for (rate, decays), weights in sorted(
            groups.items(), key=lambda group: (group[0][0] != training.learning_rate, -group[0][0], not group[0][1])
        )
    ]
    return torch.optim.AdamW(found, lr=training.learning_rate, betas=BETAS, fused=True)


@contextmanager
def freezing(model: torch.nn.Module, rates: Mapping[str, float]) -> Iterator[None]:
    """Ask for no gradient of the weights whose rate is 0; afterwards all are as they were."""
    frozen = [weight for name, weight in model.named_parameters() if rates.get(name) == 0 and weight.requires_grad]
    for weight in frozen:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(True)


class Best:
    """The weights of the best epoch so far; of equal ones the later, which has learnt longer at lower rates.

    Attributes:
        accuracy: on validation, -1 before the first.
        step: the last of that epoch.
        weights: name → copy, of those that are trained.
    """

    def __init__(self, model: torch.nn.Module, keep: bool) -> None:
        """Watch over a model, or over nothing."""
        self.model, self.keep = model, keep
        self.accuracy, self.step, self.weights = -1.0, 0, dict[str, torch.Tensor]()

    def offer(self, accuracy: float, step: int) -> None:
        """Copy the weights if none before were better."""
        if self.keep and accuracy >= self.accuracy:
            self.accuracy, self.step = accuracy, step
            self.weights = {name: weight.detach().clone() for name, weight in self._trained()}

    def restore(self) -> None:
        """Give the model the best weights back."""
        with torch.no_grad():
            for name, weight in self._trained() if self.weights else ():
                weight.copy_(self.weights[name])

    def _trained(self) -> Iterator[tuple[str, Any]]:
        return ((name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad)
