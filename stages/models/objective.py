"""What training minimises: cross-entropy, or what a teacher says about the same texts."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from stages.core.splits import UNKNOWN
from stages.models.encode import Encoded, logits
from stages.models.examples import Examples

REMEMBERED = 1 << 28
"""Numbers that a teacher's answers may be to be kept while a student learns from them: 1 GB."""


@dataclass(frozen=True)
class Guidance:
    """What a teacher says about the training texts.

    Attributes:
        logits: fp32 or fp16 [n, …, classes], of the training examples in their order; None to ask `teacher` each time.
        temperature: softens both distributions.
        kl_weight: of the KL divergence to the teacher.
        ce_weight: of the cross-entropy to the labels.
        hidden_weight: of the hidden states' mean squared error; above 0 it needs `teacher`.
        teacher: the model that is asked, and whose hidden states are matched; None where neither is.
    """

    logits: NDArray[np.floating[Any]] | None
    temperature: float
    kl_weight: float
    ce_weight: float
    hidden_weight: float = 0.0
    teacher: Any = None

    @property
    def by_text(self) -> bool:
        """Whether it is of texts as a whole, and holds however they are cut into tokens."""
        return self.logits is not None and self.logits.ndim == 2


def remembered(teacher: Any, encoded: Encoded) -> NDArray[np.float32] | None:
    """Return what a teacher answers to all texts, or None where that is more than `REMEMBERED` numbers."""
    one = Encoded(encoded.input_ids[:1], encoded.attention_mask[:1], 0)
    return logits(teacher, encoded) if logits(teacher, one).size * len(encoded) <= REMEMBERED else None


def cross_entropy(answers: torch.Tensor, labels: torch.Tensor, **options: Any) -> torch.Tensor:
    """Cross-entropy of logits [items, classes] to labels int64 [items], without the items of which none is known.

    It is 0 where none is known of any.
    """
    if not bool((labels != UNKNOWN).any()):
        return answers.sum() * 0.0
    return functional.cross_entropy(answers, labels, ignore_index=UNKNOWN, **options)


def distillation_loss(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """T²·KL(teacher ‖ student) of softened distributions, mean over the items, in nats.

    Source: Hinton, Vinyals & Dean, Distilling the Knowledge in a Neural Network (2015), section 2: the factor
    T² keeps the gradient's size when the temperature changes.

    Args:
        student: logits [items, classes].
        teacher: logits [items, classes].
        temperature: above 0.
    """
    log_student = functional.log_softmax(student / temperature, dim=-1)
    log_teacher = functional.log_softmax(teacher / temperature, dim=-1)
    return functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True) * temperature**2


def layer_map(student_layers: int, teacher_layers: int) -> list[int]:
    """Name the teacher layer that each student layer stands for: evenly spaced, the last for the last.

    Source: Jiao et al., TinyBERT (2020), uniform strategy: student layer m ↔ teacher layer m·(T/S).
    """
    return [ceil((layer + 1) * teacher_layers / student_layers) - 1 for layer in range(student_layers)]


class Objective(torch.nn.Module):
    """A model together with its loss, and the projections that are trained along and dropped."""

    def __init__(self, model: Any, train: Examples, label_smoothing: float, guidance: Guidance | None) -> None:
        """Prepare the loss of `model`.

        Args:
            model: the Hugging Face model in training.
            train: what it learns from.
            label_smoothing: of the cross-entropy.
            guidance: a teacher's view of the training texts, or None for cross-entropy alone.
        """
        super().__init__()
        self.model = model
        self.label_smoothing = label_smoothing
        self.guidance = guidance
        self.items = train.items
        self.wanted, self.mask = torch.from_numpy(train.wanted), torch.from_numpy(train.encoded.attention_mask)
        self.guide = torch.from_numpy(guidance.logits) if guidance and guidance.logits is not None else None
        self.layers: list[int] = []
        self.projections = torch.nn.ModuleList()
        if guidance and guidance.hidden_weight > 0:
            student, teacher = model.config, guidance.teacher.config
            self.layers = layer_map(student.num_hidden_layers, teacher.num_hidden_layers)
            self.projections.extend(
                torch.nn.Linear(student.hidden_size, teacher.hidden_size, bias=False) for _ in self.layers
            )

    def forward(
        self,
        rows: torch.Tensor,
        input_ids: torch.Tensor,
        masked_ids: torch.Tensor,
        attention_mask: torch.Tensor,
    ) -> torch.Tensor:
        """Return the loss of a batch, a scalar.

        Args:
            rows: int64 [batch] places in the training split, for labels and the teacher's logits.
            input_ids: int64 [batch, length] as tokenised: what the teacher reads.
            masked_ids: int64 [batch, length] with tokens masked: what the student reads.
            attention_mask: int64 [batch, length].
        """
        found = self.model(input_ids=masked_ids, attention_mask=attention_mask, output_hidden_states=bool(self.layers))
        answers = self.items(found.logits.float(), attention_mask)  # the loss in fp32, whatever the products are in
        entropy = cross_entropy(answers, self.labels(rows), label_smoothing=self.label_smoothing)
        if self.guidance is None:
            return entropy
        wanted = self._guide(self.guidance.teacher, rows, input_ids, attention_mask)
        kl = distillation_loss(answers, wanted, self.guidance.temperature)
        loss = self.guidance.kl_weight * kl + self.guidance.ce_weight * entropy
        if self.layers:
            error = self._hidden_error(found.hidden_states, input_ids, attention_mask)
            loss = loss + self.guidance.hidden_weight * error
        return loss

    def labels(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the classes of the items of some texts: int64 [items]."""
        found: torch.Tensor = self.items(self.wanted[rows], self.mask[rows])
        return found

    def _guide(
        self, teacher: Any, rows: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """Return the teacher's logits of the items of some texts: [items, classes]."""
        if self.guide is not None:
            values, mask = self.guide[rows].float(), self.mask[rows]
        else:
            with torch.no_grad():
                values, mask = teacher(input_ids=input_ids, attention_mask=attention_mask).logits, attention_mask
        found: torch.Tensor = self.items(values, mask)
        return found

    def _hidden_error(
        self, hidden: tuple[torch.Tensor, ...], input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        assert self.guidance is not None
        with torch.no_grad():
            wanted = self.guidance.teacher(
                input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True
            ).hidden_states
        real = attention_mask.bool()  # the states of padding mean nothing
        errors = [
            functional.mse_loss(projection(hidden[index + 1][real]), wanted[layer + 1][real])
            for index, (layer, projection) in enumerate(zip(self.layers, self.projections, strict=True))
        ]
        return torch.stack(errors).mean()
