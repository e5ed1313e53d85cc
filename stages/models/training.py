"""Train a classifier on encoded texts: from scratch, guided by a teacher's logits, or to recover from pruning.

A plain torch loop with the scheduler of `transformers`: `transformers.Trainer` was measured first and costs
more per step than the two-layer students themselves need (figures in `benchmarks/README.md`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from tqdm import tqdm

from stages.core.errors import ConfigError
from stages.models.encode import Encoded, logits
from stages.schema.model import Training

# More threads than one do not pay at these sizes, and the bits of a sum depend on how it is split.
THREADS = 1
BETAS = (0.9, 0.98)
CLIP_NORM = 1.0
# Batches sorted by length together: enough that a batch is hardly padded, few enough that epochs differ.
BATCHES_PER_BUCKET = 20


@dataclass(frozen=True)
class Examples:
    """A split ready for training.

    Attributes:
        encoded: n texts.
        labels: int64 [n] class ids.
    """

    encoded: Encoded
    labels: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text: int64 [n]."""
        return self.encoded.lengths


@dataclass(frozen=True)
class Guidance:
    """What a teacher says about the training texts.

    Attributes:
        logits: float32 [n, labels], in the order of the training examples.
        temperature: softens both distributions.
        kl_weight: of the divergence to the teacher.
        ce_weight: of the cross-entropy to the labels.
        hidden_weight: of the hidden states' mean squared error; above 0 it needs `teacher`.
        teacher: the model whose hidden states are matched, or None.
    """

    logits: NDArray[np.float32]
    temperature: float
    kl_weight: float
    ce_weight: float
    hidden_weight: float = 0.0
    teacher: Any = None


class Row(NamedTuple):
    """One line of `history.csv`."""

    step: int
    epoch: float
    train_loss: float
    validation_accuracy: float
    learning_rate: float


class _Batch(NamedTuple):
    rows: NDArray[np.int64]
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor


def fit(
    model: Any,
    tokenizer: Any,
    train: Examples,
    validation: Examples,
    training: Training,
    *,
    guidance: Guidance | None = None,
    title: str = "train",
) -> list[Row]:
    """Train `model` in place.

    AdamW (Loshchilov & Hutter 2019) without decay on biases and normalisation, linear warm-up, cosine decay,
    gradients clipped to norm 1. The same arguments give the same weights, bit for bit, on the same machine.

    Args:
        model: a Hugging Face sequence classifier; left in eval mode.
        tokenizer: names the mask token and the special tokens that masking spares.
        train: n examples.
        validation: examples for the learning curve; they never steer the training.
        training: the settings.
        guidance: a teacher's view of `train`; without it the loss is cross-entropy with label smoothing.
        title: of the progress bar.

    Returns:
        One row per epoch.

    Raises:
        ConfigError: token masking is asked for and the tokenizer has no mask token.
    """
    with _reproducible(training.seed), _dropout(model, training.dropout):
        model.train()
        objective = _Objective(model, training, guidance)
        run = _Run(model, objective, train, training, _masker(tokenizer, training.token_masking))
        history = [row._replace(validation_accuracy=accuracy(model, validation)) for row in run.epochs(title)]
    model.eval()
    return history


def accuracy(model: Any, examples: Examples) -> float:
    """Share of examples whose largest logit is the label's."""
    return float((logits(model, examples.encoded).argmax(axis=1) == examples.labels).mean())


def write_history(path: Path, history: list[Row]) -> None:
    """Write the learning curve as CSV, six significant digits."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows([f"{value:.6g}" for value in row] for row in history)


def distillation_loss(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """T²·KL(teacher ‖ student) of softened distributions, mean over the batch, in nats.

    Source: Hinton, Vinyals & Dean, Distilling the Knowledge in a Neural Network (2015), section 2: the factor
    T² keeps the gradient's size when the temperature changes.

    Args:
        student: logits [batch, labels].
        teacher: logits [batch, labels].
        temperature: above 0.
    """
    log_student = functional.log_softmax(student / temperature, dim=-1)
    log_teacher = functional.log_softmax(teacher / temperature, dim=-1)
    return functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True) * temperature**2


def layer_map(student_layers: int, teacher_layers: int) -> list[int]:
    """The teacher layer each student layer stands for, evenly spaced, the last for the last.

    Source: Jiao et al., TinyBERT (2020), uniform strategy: student layer m ↔ teacher layer m·(T/S).
    """
    return [ceil((layer + 1) * teacher_layers / student_layers) - 1 for layer in range(student_layers)]


class _Objective(torch.nn.Module):
    """The loss of a batch, and the projections that are trained along and dropped."""

    def __init__(self, model: Any, training: Training, guidance: Guidance | None) -> None:
        super().__init__()
        self.smoothing = training.label_smoothing
        self.guidance = guidance
        self.targets = torch.from_numpy(guidance.logits) if guidance else None
        self.projections = torch.nn.ModuleList()
        self.layers: list[int] = []
        if guidance and guidance.hidden_weight > 0:
            student, teacher = model.config, guidance.teacher.config
            self.layers = layer_map(student.num_hidden_layers, teacher.num_hidden_layers)
            self.projections.extend(
                torch.nn.Linear(student.hidden_size, teacher.hidden_size, bias=False) for _ in self.layers
            )

    def forward(self, model: Any, batch: _Batch, masked_ids: torch.Tensor) -> torch.Tensor:
        output = model(
            input_ids=masked_ids, attention_mask=batch.attention_mask, output_hidden_states=bool(self.layers)
        )
        entropy = functional.cross_entropy(output.logits, batch.labels, label_smoothing=self.smoothing)
        if self.guidance is None or self.targets is None:
            return entropy
        divergence = distillation_loss(output.logits, self.targets[batch.rows], self.guidance.temperature)
        loss = self.guidance.kl_weight * divergence + self.guidance.ce_weight * entropy
        if self.layers:
            loss = loss + self.guidance.hidden_weight * self._hidden_error(output.hidden_states, batch)
        return loss

    def _hidden_error(self, hidden: tuple[torch.Tensor, ...], batch: _Batch) -> torch.Tensor:
        assert self.guidance is not None
        with torch.no_grad():
            wanted = self.guidance.teacher(
                input_ids=batch.input_ids, attention_mask=batch.attention_mask, output_hidden_states=True
            ).hidden_states
        real = batch.attention_mask.bool()  # the states of padding mean nothing
        errors = [
            functional.mse_loss(projection(hidden[index + 1][real]), wanted[layer + 1][real])
            for index, (layer, projection) in enumerate(zip(self.layers, self.projections, strict=True))
        ]
        return torch.stack(errors).mean()


class _Run:
    """One optimisation: batches, optimiser and schedule."""

    def __init__(self, model: Any, objective: _Objective, train: Examples, training: Training, masker: _Masker) -> None:
        from transformers import get_cosine_schedule_with_warmup

        self.model, self.objective, self.train, self.masker = model, objective, train, masker
        self.batch_size = training.batch_size
        self.steps_per_epoch = ceil(len(train.labels) / training.batch_size)
        self.steps = max(1, round(training.epochs * self.steps_per_epoch))
        self.parameters = [*model.parameters(), *objective.parameters()]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in self.parameters if p.ndim > 1], "weight_decay": training.weight_decay},
                {"params": [p for p in self.parameters if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=training.learning_rate,
            betas=BETAS,
            fused=True,
        )
        warmup = ceil(training.warmup_fraction * self.steps)
        self.schedule = get_cosine_schedule_with_warmup(self.optimizer, warmup, self.steps)
        self.random = np.random.default_rng(training.seed)

    def epochs(self, title: str) -> Iterator[Row]:
        """Train, yielding after each epoch a row whose accuracy the caller fills in."""
        step, losses = 0, []
        with tqdm(total=self.steps, desc=title, unit="step", mininterval=1.0) as bar:
            while step < self.steps:
                for rows in batches(self.train.lengths, self.batch_size, self.random)[: self.steps - step]:
                    rate = self.schedule.get_last_lr()[0]
                    losses.append(self._step(_collate(self.train, rows)))
                    step += 1
                    bar.update()
                mean = float(torch.stack(losses).mean())
                bar.set_postfix_str(f"loss {mean:.3f}", refresh=False)
                yield Row(step, step / self.steps_per_epoch, mean, float("nan"), rate)
                self.model.train()
                losses = []

    def _step(self, batch: _Batch) -> torch.Tensor:
        loss: torch.Tensor = self.objective(self.model, batch, self.masker(batch, self.random))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, CLIP_NORM)
        self.optimizer.step()
        self.schedule.step()
        return loss.detach()


def batches(lengths: NDArray[np.int64], batch_size: int, random: np.random.Generator) -> list[NDArray[np.int64]]:
    """Cut an epoch into shuffled batches of texts of similar length.

    Args:
        lengths: int64 [n] tokens of each text.
        batch_size: texts per batch; the last of the epoch may be smaller.
        random: source of the shuffles.

    Returns:
        Row numbers, each exactly once.
    """
    order = random.permutation(len(lengths))
    bucket = batch_size * BATCHES_PER_BUCKET
    found: list[NDArray[np.int64]] = []
    for start in range(0, len(order), bucket):
        rows = order[start : start + bucket]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        found += [rows[cut : cut + batch_size] for cut in range(0, len(rows), batch_size)]
    return [found[index] for index in random.permutation(len(found))]


def _collate(examples: Examples, rows: NDArray[np.int64]) -> _Batch:
    width = int(examples.lengths[rows].max())
    ids, mask = examples.encoded.input_ids[rows, :width], examples.encoded.attention_mask[rows, :width]
    return _Batch(
        rows,
        torch.from_numpy(ids.astype(np.int64)),
        torch.from_numpy(mask.astype(np.int64)),
        torch.from_numpy(examples.labels[rows]),
    )


class _Masker:
    """Replaces a share of the ordinary tokens of a batch by the mask token."""

    def __init__(self, rate: float, mask_id: int, special_ids: list[int]) -> None:
        self.rate, self.mask_id, self.special_ids = rate, mask_id, np.asarray(special_ids)

    def __call__(self, batch: _Batch, random: np.random.Generator) -> torch.Tensor:
        if self.rate == 0:
            return batch.input_ids
        ids = batch.input_ids.numpy()
        chosen = (random.random(ids.shape) < self.rate) & ~np.isin(ids, self.special_ids)
        return torch.from_numpy(np.where(chosen, self.mask_id, ids))


def _masker(tokenizer: Any, rate: float) -> _Masker:
    if rate > 0 and tokenizer.mask_token_id is None:
        raise ConfigError(
            "token_masking needs a mask token and the tokenizer has none", next_step="set token_masking: 0"
        )
    return _Masker(rate, tokenizer.mask_token_id or 0, tokenizer.all_special_ids)


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    torch.set_flush_denormal(True)  # AdamW's second moments sink into denormals, which cost 100 cycles each
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        torch.set_flush_denormal(False)


@contextmanager
def _dropout(model: Any, rate: float) -> Iterator[None]:
    modules = [module for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    before = [module.p for module in modules]
    for module in modules:
        module.p = rate
    try:
        yield
    finally:
        for module, original in zip(modules, before, strict=True):
            module.p = original
