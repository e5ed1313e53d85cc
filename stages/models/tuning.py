"""What training may do otherwise: rates by weight, Muon for the layers' matrices, half precision, the best epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from stages.models.families import family_of

if TYPE_CHECKING:
    from stages.models.objective import Objective
    from stages.schema.model import Training

# The instructions that multiply bf16: AMX and AVX-512 on x86, NEON's on ARM.
INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16")
BETAS = (0.9, 0.98)


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How a model is trained; what is not said is as from scratch.

    Attributes:
        rates: name of a weight → its peak learning rate, 0 to leave it as it is; the training's own where none is said.
        muon: peak learning rate of the layers' matrices, which Muon then updates in place of AdamW; 0 for AdamW alone.
        bf16: whether products are computed in bf16 (weights, sums and their updates stay in fp32).
        keep_best: whether the weights of the epoch that is best on validation stay, not those of the last one.
        resume: directory that an interrupted training leaves its state in, and is taken up from; None for neither.
    """

    rates: Mapping[str, float] = field(default_factory=dict)
    muon: float = 0.0
    bf16: bool = False
    keep_best: bool = False
    resume: Path | None = None


def bf16_is_faster() -> bool:
    """Whether this processor has instructions that multiply bf16.

    Where it has none, torch converts back and forth.
    """
    known = torch.cpu.get_capabilities()
    return any(known.get(name, False) for name in INSTRUCTIONS)


def optimizer_of(objective: Objective, training: Training, tuning: Tuning) -> torch.optim.Optimizer:
    """Choose what updates which weight.

    Args:
        objective: the model and its loss.
        training: the rate of what `tuning` says nothing of, and the decay of matrices.
        tuning: rates of single weights, and whether Muon updates the layers' matrices.
    """
    ours = layer_matrices(objective.model) if tuning.muon else []
    rest = adamw(objective, training, tuning.rates, ours)
    if not ours:
        return rest
    muon = torch.optim.Muon(ours, lr=tuning.muon, weight_decay=training.weight_decay)
    return Together([rest, muon])


def layer_matrices(model: Any) -> list[torch.nn.Parameter]:
    """Return the matrices of a model's layers that are trained: neither embeddings nor the head."""
    inside = f".{family_of(model.config).layer_list}."
    return [weight for name, weight in model.named_parameters() if inside in name and weight.ndim == 2]


def adamw(
    objective: Objective, training: Training, rates: Mapping[str, float], without: Sequence[torch.nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """Group the weights by rate, and by whether they decay; the training's own rate comes first."""
    own = {id(weight): rates.get(name, training.learning_rate) for name, weight in objective.model.named_parameters()}
    groups: dict[tuple[float, bool], list[Any]] = {}
    left_out = {id(weight) for weight in without}
    for weight in objective.parameters():
        if weight.requires_grad and id(weight) not in left_out:
            groups.setdefault((own.get(id(weight), training.learning_rate), weight.ndim > 1), []).append(weight)
    found = [
        {"params": weights, "lr": rate, "weight_decay": training.weight_decay if decays else 0.0}
        for (rate, decays), weights in sorted(
            groups.items(), key=lambda group: (group[0][0] != training.learning_rate, -group[0][0], not group[0][1])
        )
    ]
    return torch.optim.AdamW(found, lr=training.learning_rate, betas=BETAS, fused=True)


class Together(torch.optim.Optimizer):
    """Several optimisers as one, each with its own groups: a schedule changes the rates of all.

    Source of the division of labour: Jordan et al., Muon (2024): orthogonalised momentum for the matrices of hidden
    layers, AdamW for embeddings, heads and vectors.
    """

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        """Put them together, the one whose rate is shown first."""
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._share()

    def step(self, closure: Any = None) -> Any:
        """Let each update what is its own."""
        loss = closure() if closure is not None else None
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all, in their order."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take up the states of all."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share()

    def _share(self) -> None:
        """Have their groups, not copies: theirs are what they read rates from."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]


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
