"""Measure how much the task loss depends on each attention head and FFN unit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.core.splits import spread
from stages.models.blocks import blocks
from stages.models.examples import Examples
from stages.models.objective import cross_entropy
from stages.models.training import texts_at_once

FloatArray = NDArray[np.float64]
BATCH_SIZE = 64


@dataclass(frozen=True)
class Importance:
    """How much the loss would change, to first order, without each part of a block; nats.

    Attributes:
        heads: float64 [heads left], mean over utterances; those that share keys and values are one.
        ffns: per FFN float64 [units], mean over utterances.
    """

    heads: FloatArray
    ffns: tuple[FloatArray, ...]


@dataclass(frozen=True)
class _Probe:
    """A Linear layer whose inputs are the outputs of the parts measured, `width` columns each."""

    layer: torch.nn.Linear
    width: int


def measure(model: Any, examples: Examples) -> list[Importance]:
    """Measure every block: |Σ activation × gradient of the utterance's loss|, mean over utterances.

    The sum runs over positions, over a head's width and, in ALBERT, over the layers that share the block: to first
    order it is the loss's change when the part's output becomes zero. Source: Molchanov et al., Importance Estimation
    for Neural Network Pruning (2019), eq. 8; for heads Michel, Levy & Neubig, Are Sixteen Heads Really Better than
    One? (2019), eq. 2.

    Args:
        model: the checkpoint in eval mode.
        examples: labelled utterances.

    Returns:
        One entry per block of `blocks.blocks`.
    """
    parts = blocks(model)
    probes = [
        probe
        for block in parts
        for probe in (
            _Probe(block.output, block.head_size * block.shared),
            *(_Probe(ffn.down, 1) for ffn in block.ffns),
        )
    ]
    totals = [np.zeros(probe.layer.in_features // probe.width) for probe in probes]
    size = min(BATCH_SIZE, texts_at_once(model, int(examples.encoded.lengths.max())))
    for start in range(0, len(examples), size):
        batch = examples.take(np.arange(start, min(start + size, len(examples))))
        for total, found in zip(totals, _batch(model, probes, batch), strict=True):
            total += found
    means = iter([total / len(examples) for total in totals])
    return [Importance(next(means), tuple(next(means) for _ in block.ffns)) for block in parts]


def sample(examples: Examples, size: int) -> Examples:
    """Take `size` examples evenly spaced over a split, all of it when it is smaller."""
    return examples.take(spread(len(examples), size))


def _batch(model: Any, probes: Sequence[_Probe], batch: Examples) -> list[FloatArray]:
    """Sum of the batch's importances, one array [parts] per probe."""
    width = int(batch.encoded.lengths.max())
    ids = torch.from_numpy(batch.encoded.input_ids[:, :width].astype(np.int64))
    mask = torch.from_numpy(batch.encoded.attention_mask[:, :width].astype(np.int64))
    with _capturing(probes) as captured:
        answers = batch.items(model(input_ids=ids, attention_mask=mask).logits, mask)
        # The sum, not the mean: an utterance's gradient must not depend on how many share its batch.
        loss = cross_entropy(answers, torch.from_numpy(batch.labels), reduction="sum")
        inputs = [tensor for tensors in captured for tensor in tensors]
        gradients = iter(torch.autograd.grad(loss, inputs))
    found = []
    for probe, tensors in zip(probes, captured, strict=True):
        # Text by text, which some layers (OPT's FFNs) read one after the other.
        effects = ((tensor.detach() * next(gradients)).reshape(len(ids), -1, tensor.shape[-1]) for tensor in tensors)
        products = torch.stack([effect.sum(dim=1) for effect in effects]).sum(dim=0)
        per_part = products.unflatten(1, (-1, probe.width)).sum(dim=2)
        found.append(per_part.abs().double().sum(dim=0).numpy())
    return found


@contextmanager
def _capturing(probes: Sequence[_Probe]) -> Iterator[list[list[torch.Tensor]]]:
    """Collect what enters each probe's layer, once per use of the layer."""
    captured: list[list[torch.Tensor]] = [[] for _ in probes]
    handles = [
        probe.layer.register_forward_pre_hook(lambda _, inputs, into=into: into.append(inputs[0]))
        for probe, into in zip(probes, captured, strict=True)
    ]
    try:
        yield captured
    finally:
        for handle in handles:
            handle.remove()
