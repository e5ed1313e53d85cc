"""The faults in an artifact: what toolchains, merges and disks have done to models, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.injecting.tensor import Editor, Tensor, nearest

Checkpoint = Mapping[str, NDArray[np.float32]]

LOOKALIKES = {
    "GELU": "RELU",
    "Gelu": "Relu",
    "gelu": "relu",
    "LOGISTIC": "TANH",
    "Sigmoid": "Tanh",
    "sigmoid": "tanh",
    "Erf": "Tanh",
    "erf": "tanh",
}
"""Activation function → one that a careless conversion has put in its place."""


class NotApplicable(LookupError):
    """The artifact has nothing that this fault could break."""


@dataclass(frozen=True)
class Subject:
    """What a fault works on.

    Attributes:
        editor: the opened artifact.
        checkpoint: tensors by name, to find weights by content.
        mask_constant: what the export module subtracts from masked scores.
        heads: of the first layer, in the matrix of its queries.
        groups: of heads that share keys and values, in the matrix of its keys.
        parts: part of a transformer → how the name of its weight ends; the first in order of names is taken.
        random: choices of the fault.
        epsilons: of the checkpoint's normalisations.
    """

    editor: Editor
    checkpoint: Checkpoint
    mask_constant: float
    heads: int
    parts: Mapping[str, str]
    random: np.random.Generator
    epsilons: Collection[float] = ()
    groups: int = 1

    def part(self, role: str) -> Tensor:
        """Find a weight of the artifact by what it was made from.

        Raises:
            NotApplicable: the checkpoint or the artifact has none.
        """
        names = [name for name in sorted(self.checkpoint) if role in self.parts and name.endswith(self.parts[role])]
        if not names:
            raise NotApplicable(f"the checkpoint has no {role} weight")
        try:
            return nearest(self.editor.tensors(), self.checkpoint[names[0]])
        except LookupError as error:
            raise NotApplicable(str(error)) from error

    def scalar(self, value: float) -> Tensor:
        """Find a scalar of the artifact by its value, up to rounding.

        Raises:
            NotApplicable: there is none.
        """
        for tensor in self.editor.tensors():
            if tensor.levels.size == 1 and abs(float(tensor.value.reshape(-1)[0]) - value) <= abs(value) * 0.01:
                return tensor
        raise NotApplicable(f"no stored scalar is {value:g}")


Fault = Callable[[Subject], None]


def zeroed_layer(subject: Subject) -> None:
    """A linear layer of zeros."""
    tensor = subject.part("up")
    tensor.store(np.zeros_like(tensor.value))


def zeroed_head(subject: Subject) -> None:
    """One attention head's queries lost."""
    tensor = subject.part("query")
    tensor.store(np.zeros((), np.float32), slice(0, len(tensor.value) // subject.heads))


def swapped_query_and_key(subject: Subject) -> None:
    """Two weights of one shape in each other's place."""
    query, key = subject.part("query"), subject.part("key")
    if query.levels.shape != key.levels.shape:
        raise NotApplicable("queries and keys have weights of different shapes")
    query.exchange(key)


def transposed_weight(subject: Subject) -> None:
    """A square weight stored the other way round."""
    tensor = subject.part("output")
    if tensor.value.shape[-1] != tensor.value.shape[-2]:
        raise NotApplicable("the attention output is not square")
    tensor.store(tensor.value.swapaxes(-1, -2).copy())


def doubled_channel(subject: Subject) -> None:
    """One output channel at twice its scale."""
    tensor = subject.part("output")
    channel = int(subject.random.integers(len(tensor.value)))
    if tensor.scale is not None and tensor.scale.size == len(tensor.value):
        tensor.scale.reshape(-1)[channel] *= 2
    else:
        tensor.store(tensor.value[channel] * 2, channel)


def wrong_zero_point(subject: Subject) -> None:
    """A weight whose zero point is eight levels off."""
    tensor = subject.part("up")
    if tensor.zero is None:
        raise NotApplicable("the weight has no zero point")
    tensor.zero = np.where(tensor.zero > 100, tensor.zero - 8, tensor.zero + 8).astype(tensor.zero.dtype)


def misplaced_grid(subject: Subject) -> None:
    """An activation whose integers cover another range than it has."""
    if not subject.editor.misplace_grid():
        raise NotApplicable("no activation is stored in integers")


def ignored_mask(subject: Subject) -> None:
    """Padding is read as if it were text."""
    tensor = subject.scalar(subject.mask_constant)
    tensor.store(np.zeros_like(tensor.value))


def inverted_mask(subject: Subject) -> None:
    """Text is hidden and padding is read."""
    constant = subject.scalar(subject.mask_constant)
    if constant.levels.dtype.kind == "u":
        raise NotApplicable("the mask constant has no sign")
    constant.store(-constant.value)


def shifted_positions(subject: Subject) -> None:
    """Position 0 is read from row 1, and so on."""
    tensor = subject.part("positions")
    tensor.store(np.roll(tensor.value, -1, axis=-2))


def truncated_vocabulary(subject: Subject) -> None:
    """The last quarter of the vocabulary was lost and filled with zeros."""
    tensor = subject.part("words")
    tensor.store(np.zeros((), np.float32), slice(len(tensor.value) * 3 // 4, None))


def swapped_rows(subject: Subject) -> None:
    """Two words have each other's vector."""
    tensor = subject.part("words")
    one, other = subject.random.choice(np.arange(5, len(tensor.value)), 2, replace=False)
    value = tensor.value
    tensor.store(value[[other, one]], [one, other])
    if tensor.scale is not None and tensor.scale.size == len(value):
        tensor.scale[[one, other]] = tensor.scale[[other, one]]


def wrong_epsilon(subject: Subject) -> None:
    """Every normalisation has another framework's epsilon."""
    subject.editor.set_epsilon(next(value for value in (1e-5, 1e-6) if value not in subject.epsilons))


def replaced_activation(subject: Subject) -> None:
    """The activation function is one that looks like it."""
    if not subject.editor.replace_operator(LOOKALIKES):
        raise NotApplicable(f"no operator is one of {sorted(LOOKALIKES)}")


def poisoned_weight(subject: Subject) -> None:
    """One stored number is NaN: a weight, or the scale or table entry it is expanded with."""
    tensor = subject.part("up")
    holder = next(part for part in (tensor.table, tensor.scale, tensor.levels) if part is not None)
    holder.reshape(-1)[int(subject.random.integers(holder.size))] = np.nan


def rotated_classes(subject: Subject) -> None:
    """Every logit stands at the next label's place."""
    tensor = subject.part("classifier")
    tensor.store(np.roll(tensor.value, 1, axis=0))


def stale_weights(subject: Subject) -> None:
    """Weights of an earlier epoch: each a little other than the checkpoint's."""
    for tensor in subject.editor.tensors():
        if tensor.levels.ndim >= 2:
            value = tensor.value
            tensor.store(value + 0.1 * value.std() * subject.random.standard_normal(value.shape).astype(np.float32))


def flipped_bit(subject: Subject) -> None:
    """One bit of one stored number is not what was written."""
    tensor = subject.part("words" if subject.random.random() < 0.5 else "up")
    width = tensor.levels.itemsize
    numbers = tensor.levels.reshape(-1).view(f"u{width}")
    numbers[int(subject.random.integers(numbers.size))] ^= np.array(1 << int(subject.random.integers(tensor.bits)),
                                                                    numbers.dtype)  # fmt: skip


def _named(*faults: Fault) -> dict[str, Fault]:
    return {fault.__name__: fault for fault in faults}


LAYERS = _named(
    zeroed_layer,
    zeroed_head,
    swapped_query_and_key,
    transposed_weight,
    doubled_channel,
    wrong_zero_point,
    misplaced_grid,
)
"""Faults in what a layer stores."""
MASKS = _named(ignored_mask, inverted_mask)
"""Faults in what keeps padding from being read."""
TABLES = _named(
    shifted_positions, truncated_vocabulary, swapped_rows, wrong_epsilon, replaced_activation, poisoned_weight
)
"""Faults in tables, and in what stands all over a model."""
CLASSES = _named(rotated_classes)
"""Faults in the head."""
ANYWHERE = _named(stale_weights, flipped_bit)
"""Faults that may lie anywhere."""


def truncated_file(artifact: Path) -> None:
    """The largest file ends early."""
    largest = max((path for path in artifact.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = largest.read_bytes()
    largest.write_bytes(content[: len(content) * 9 // 10])


FILES: dict[str, Callable[[Path], None]] = {"truncated_file": truncated_file}
"""Faults in the artifact's files."""
