"""Which checkpoint tensor a weight of a program came from: by name where converters keep it, else by content."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from stages.coreml.dtypes import Array

_SUFFIXES = re.compile(r"(_to_(fp16|fp32|u?int8|u?int16)|_(palettized|quantized|sparsified|pcs)|_\d+)+$")
_SAME = 0.5
"""Relative error up to which content alone identifies a source; compression to 3 bits stays below, chance does not."""


@dataclass(frozen=True)
class Source:
    """Where a weight came from.

    Attributes:
        label: the tensor and what was done to it.
        tensors: checkpoint tensors that went into it.
        value: what the weight should be, fp32, in the program's shape.
    """

    label: str
    tensors: tuple[str, ...]
    value: Array


def sanitised(key: str) -> str:
    """Spell a checkpoint key as converters spell constants."""
    return re.sub(r"\W", "_", key)


def find_source(name: str, value: Array, tensors: Mapping[str, Array], names: Mapping[str, str]) -> Source | None:
    """Find what a weight came from.

    Args:
        name: the weight's name in the program.
        value: decompressed, fp32.
        tensors: the checkpoint, fp32.
        names: sanitised key → key.

    Returns:
        None where neither name nor content gives one.
    """
    base = _SUFFIXES.sub("", name)
    matches = [spelt for spelt in names if base == spelt or base.endswith(f"_{spelt}")]
    if matches:
        key = names[max(matches, key=len)]
        if tensors[key].shape == value.shape:
            return Source(key, (key,), tensors[key])
    candidates = [s for s in (*_rows(base, value, tensors), *_scaled(value, tensors)) if s.value.shape == value.shape]
    if not candidates:
        return None if value.any() else Source("zeros: the layer has no bias", (), value)
    best = min(candidates, key=lambda source: _distance(value, source.value))
    if _named_alike(base, best) or _distance(value, best.value) < _SAME:
        return best
    return None if value.any() else Source("zeros: the layer has no bias", (), value)


def _named_alike(base: str, source: Source) -> bool:
    return base in sanitised(source.tensors[0])


def _distance(value: Array, source: Array) -> float:
    return float(np.linalg.norm(value - source) / max(float(np.linalg.norm(source)), 1e-30))


def _rows(base: str, value: Array, tensors: Mapping[str, Array]) -> Iterator[Source]:
    """Yield embeddings whose first rows, or whose first row repeated, were folded into a constant."""
    rows = value.reshape(-1, value.shape[-1])
    for key, tensor in tensors.items():
        if tensor.ndim == 2 and tensor.shape[1] == rows.shape[1] and tensor.shape != value.shape:
            if rows.shape[0] <= tensor.shape[0]:
                yield Source(f"rows of {key}", (key,), tensor[: rows.shape[0]].reshape(value.shape))
            if base in sanitised(key):
                yield Source(f"row 0 of {key}", (key,), np.broadcast_to(tensor[0], value.shape))
        if tensor.shape == value.shape:
            yield Source(f"same content as {key}", (key,), tensor)


def _scaled(value: Array, tensors: Mapping[str, Array]) -> Iterator[Source]:
    """Yield linear layers that a following per-channel scale and shift (MobileBERT's NoNorm) was folded into."""
    for scale, shift in _norms(tensors):
        if tensors[scale].shape != value.shape[:1]:
            continue
        for key, tensor in tensors.items():
            if tensor.shape != value.shape or key in (scale, shift):
                continue
            if value.ndim == 2:
                yield Source(f"{key} scaled by {scale}", (key, scale), tensor * tensors[scale][:, None])
            elif value.ndim == 1 and key.endswith("bias"):
                folded = tensor * tensors[scale] + tensors[shift]
                yield Source(f"{key} scaled by {scale} and {shift}", (key, scale, shift), folded)


def _norms(tensors: Mapping[str, Array]) -> Iterator[tuple[str, str]]:
    for key, tensor in tensors.items():
        shift = key.removesuffix("weight") + "bias"
        if key.endswith("weight") and tensor.ndim == 1 and shift in tensors:
            yield key, shift
