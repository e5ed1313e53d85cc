"""Train a model on encoded texts: from scratch, guided by a teacher's logits, or to recover from pruning.

`transformers.Trainer` drives the steps. Measured on a two-layer student of width 128 at batch 96, one epoch of
15,000 texts: 8.5 and 7.9 CPU-s with Trainer, 8.5 and 8.1 CPU-s with a bare loop.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil, isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from stages.core.errors import ConfigError, InputError
from stages.core.process import hidden
from stages.core.splits import UNKNOWN
from stages.models.dropout import dropping
from stages.models.examples import Examples
from stages.models.interruption import KEPT as STATES
from stages.models.interruption import Interruptible
from stages.models.objective import Guidance, Objective
from stages.models.tuning import Best, Tuning, freezing, optimizer_of
from stages.schema.model import Training

# Trainer imports it only to learn whether data are its own; with pandas and pyarrow it is 80 MB of every training.
with hidden(("datasets",)):
    from transformers import (
        PrinterCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        get_cosine_schedule_with_warmup,
    )

# On two busy cores a second thread made an epoch 4 times slower (52 s against 12 s); on one thread no sum depends
# on how it was split.
THREADS = 1
CLIP_NORM = 1.0
# Numbers that the linear layers of a batch read and give, which the backward pass needs: 128 MB. Beyond, a batch goes
# through in parts whose gradients add up: a MiniLM's 96 texts of 32 tokens were 0.6 GB.
KEPT = 1 << 25
# Batches sorted by length together: enough that a batch is hardly padded, few enough that epochs differ.
BATCHES_PER_BUCKET = 20


class Row(NamedTuple):
    """One line of `history.csv`."""

    step: int
    epoch: float
    train_loss: float
    validation_accuracy: float
    learning_rate: float


def fit(
    model: Any,
    tokenizer: Any,
    train: Examples,
    validation: Examples,
    training: Training,
    *,
    guidance: Guidance | None = None,
    tuning: Tuning | None = None,
    title: str = "train",
) -> list[Row]:
    """Train `model` in place.

    AdamW (Loshchilov & Hutter 2019) without decay on biases and normalisation, Muon beside it where `tuning` says so,
    linear warm-up, cosine decay, gradients clipped to norm 1. The same arguments give the same weights, bit for bit, on
    the same machine.

    Args:
        model: a Hugging Face model with a head; left in eval mode.
        tokenizer: names the mask token and the special tokens that masking spares.
        train: n examples.
        validation: examples for the learning curve, and for the choice of an epoch where `tuning` keeps the best; they
            steer nothing else.
        training: the settings.
        guidance: a teacher's view of `train`; without it the loss is cross-entropy with label smoothing.
        tuning: what is done otherwise with a pretrained model.
        title: of the progress bar.

    Returns:
        One row per epoch, and one for the last step.

    Raises:
        InputError: there are no labels to learn from.
        ConfigError: token masking is asked for and the tokenizer has no mask token, or the loss ran away.
    """
    if not all((examples.labels != UNKNOWN).any() for examples in (train, validation)):
        raise InputError("none of the texts to learn from has a label", expected="labels in train and validation")
    collate, tuning = _Collate(train, tokenizer, training), tuning or Tuning()
    with (
        reproducible(training.seed),
        dropping(model, training.dropout),
        freezing(model, tuning.rates),
        TemporaryDirectory() as scratch,
    ):
        objective = Objective(model, train, training.label_smoothing, guidance)
        loop = Loop(objective, collate, training, tuning, scratch)
        curve = Curve(loop, model, validation, Best(model, tuning.keep_best), title)
        loop.add_callback(curve)
        before = None
        if tuning.resume:
            interruptible = Interruptible(loop, curve, tuning.resume)
            loop.add_callback(interruptible)
            before = interruptible.found()
        with curve.bar:
            loop.train(resume_from_checkpoint=before)
        curve.best.restore()
    model.eval()
    return curve.rows


def accuracy(model: Any, examples: Examples) -> float:
    """Share of the items with a label whose largest logit is that label's."""
    return float(examples.right(model).mean())


def write_history(path: Path, history: list[Row]) -> None:
    """Write the learning curve as CSV, six significant digits."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows([f"{value:.6g}" for value in row] for row in history)


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


def texts_at_once(model: torch.nn.Module, width: int) -> int:
    """Return how many texts of `width` tokens a backward pass takes before it keeps more than `KEPT` numbers."""
    layers = (module for module in model.modules() if isinstance(module, torch.nn.Linear))
    numbers: int = sum(layer.in_features + layer.out_features for layer in layers)
    return max(1, KEPT // max(1, width * numbers))


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Make what torch draws and sums inside the block depend on `seed` alone; the settings are restored after it."""
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


class _Collate:
    """Turns row numbers into the arguments of `Objective.forward`; masks tokens anew each time."""

    def __init__(self, train: Examples, tokenizer: Any, training: Training) -> None:
        if training.token_masking > 0 and tokenizer.mask_token_id is None:
            raise ConfigError(
                "token_masking needs a mask token and the tokenizer has none", next_step="set token_masking: 0"
            )
        self.train, self.lengths = train, train.encoded.lengths
        self.rate, self.mask_id = training.token_masking, tokenizer.mask_token_id
        self.special_ids = np.asarray(tokenizer.all_special_ids)
        self.seed, self.calls = training.seed, 0

    def __call__(self, rows: list[int]) -> dict[str, torch.Tensor]:
        random = np.random.default_rng([self.seed, 1, self.calls])  # of the batch: one may be fetched ahead of its step
        self.calls += 1
        width = int(self.lengths[rows].max())
        ids = self.train.encoded.input_ids[rows, :width].astype(np.int64)
        masked = ids
        if self.rate > 0:
            chosen = (random.random(ids.shape) < self.rate) & ~np.isin(ids, self.special_ids)
            masked = np.where(chosen, self.mask_id, ids)
        return {
            "rows": torch.as_tensor(rows),
            "input_ids": torch.from_numpy(ids),
            "masked_ids": torch.from_numpy(masked),
            "attention_mask": torch.from_numpy(self.train.encoded.attention_mask[rows, :width].astype(np.int64)),
        }


class _Batches(torch.utils.data.Sampler[list[int]]):
    """Batches of row numbers, shuffled anew each epoch."""

    def __init__(self, lengths: NDArray[np.int64], training: Training) -> None:
        self.lengths, self.batch_size = lengths, training.batch_size
        self.random = np.random.default_rng([training.seed, 0])
        self.began = self.random.bit_generator.state

    def state(self, at_start: bool) -> Any:
        """Return what the next epoch is shuffled from, or what the running one was."""
        return self.began if at_start else self.random.bit_generator.state

    def restore(self, state: Any) -> None:
        """Shuffle from here on as from that state."""
        self.random.bit_generator.state = state

    def __iter__(self) -> Iterator[list[int]]:
        self.began = self.random.bit_generator.state
        for rows in batches(self.lengths, self.batch_size, self.random):
            yield rows.tolist()

    def __len__(self) -> int:
        return ceil(len(self.lengths) / self.batch_size)


class Loop(Trainer):  # type: ignore[misc]
    """The Hugging Face loop around our batches, loss, optimiser and schedule; writes only what `Interruptible` does."""

    def __init__(
        self, objective: Objective, collate: _Collate, training: Training, tuning: Tuning, scratch: str
    ) -> None:
        self.collate, self.sampler = collate, _Batches(collate.lengths, training)
        self.precision = torch.autocast("cpu", torch.bfloat16, enabled=tuning.bf16)
        self.losses: list[torch.Tensor] = []
        steps = max(training.min_steps, round(training.epochs * len(self.sampler)))
        optimizer = optimizer_of(objective, training, tuning)
        warmup = ceil(training.warmup_fraction * steps)
        super().__init__(
            model=objective,
            args=TrainingArguments(
                output_dir=str(tuning.resume or scratch),
                max_steps=steps,
                max_grad_norm=CLIP_NORM,
                seed=training.seed,
                logging_strategy="no",
                save_strategy="no",
                save_total_limit=STATES,
                report_to=[],
                disable_tqdm=True,
                use_cpu=True,
            ),
            optimizers=(optimizer, get_cosine_schedule_with_warmup(optimizer, warmup, steps)),
        )
        self.remove_callback(PrinterCallback)  # prints to stdout what the progress bar shows on stderr

    def get_train_dataloader(self) -> Any:
        """Return batches of row numbers, collated."""
        rows = range(len(self.collate.lengths))
        return torch.utils.data.DataLoader(rows, batch_sampler=self.sampler, collate_fn=self.collate)  # type: ignore[arg-type]

    def training_step(self, model: Any, inputs: dict[str, torch.Tensor], *rest: Any, **named: Any) -> torch.Tensor:
        """Take the gradient of a batch: of all of it at once, or where that is too large in parts."""
        at_once = texts_at_once(self.model, inputs["input_ids"].shape[1])
        parts = [torch.split(value, at_once) for value in inputs.values()]
        if len(parts[0]) == 1:
            return super().training_step(model, inputs, *rest, **named)
        model.train()
        total, known = torch.zeros(()), self._known(inputs["rows"])
        for values in zip(*parts, strict=True):
            part = dict(zip(inputs, values, strict=True))
            with self.precision:
                loss = model(**part)
            loss = loss * (self._known(part["rows"]) / known)
            loss.backward()
            total += loss.detach()
        self.losses.append(total)
        return total

    def _known(self, rows: torch.Tensor) -> int:
        """Count what the loss of some texts is a mean of: items with a label, or all where a teacher answers each."""
        labels = self.model.labels(rows)
        return labels.numel() if self.model.guidance else int((labels != UNKNOWN).sum())

    def compute_loss(self, model: Any, inputs: dict[str, torch.Tensor], *_: Any, **__: Any) -> torch.Tensor:
        """Return the batch's loss and remember it for the learning curve."""
        with self.precision:
            loss: torch.Tensor = model(**inputs)
        self.losses.append(loss.detach())
        return loss


class Curve(TrainerCallback):  # type: ignore[misc]
    """Shows progress and writes down one row per epoch."""

    def __init__(self, loop: Loop, model: Any, validation: Examples, best: Best, title: str) -> None:
        self.loop, self.model, self.validation, self.best = loop, model, validation, best
        self.bar = tqdm(total=loop.args.max_steps, desc=title, unit="step", mininterval=1.0)
        self.rows: list[Row] = []

    def on_step_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        """Count the step; at the end of an epoch, validate."""
        self.bar.update()
        per_epoch = len(self.loop.sampler)
        if state.global_step % per_epoch == 0 or state.global_step == args.max_steps:
            loss = float(torch.stack(self.loop.losses).mean())
            if not isfinite(loss):
                raise ConfigError(
                    f"the loss is {loss} at step {state.global_step}", next_step="lower training.learning_rate"
                )
            self.loop.losses.clear()
            rate = self.loop.optimizer.param_groups[0]["lr"]
            row = Row(
                state.global_step, state.global_step / per_epoch, loss, accuracy(self.model, self.validation), rate
            )
            self.bar.set_postfix_str(f"loss {loss:.3f} validation {row.validation_accuracy:.2%}", refresh=False)
            self.rows.append(row)
            self.best.offer(row.validation_accuracy, row.step)

    def go_on(self, step: int, rows: list[list[float]]) -> None:
        """Take up what was shown and written down before an interruption."""
        self.rows = [Row(int(row[0]), *row[1:]) for row in rows]
        self.bar.initial = self.bar.n = step  # what is left is reckoned by the steps since
