"""Compressions: one module per `kind` of conf/compression, each with `apply`. Modules here import torch.

A transform is `apply(model, tokenizer, splits, params) -> Outcome`: it consumes the model it is given, and what it
returns must reload through `stages.models.checkpoint.load_model`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from stages.models.examples import Examples
    from stages.models.training import Row


@dataclass(frozen=True)
class Outcome:
    """What a transform made.

    Attributes:
        model: the compressed model, in eval mode.
        removed: JSON-ready notes on what was taken out and what that cost.
        history: the learning curve, where the transform trained.
        tokenizer: the one to save, where the transform rewrote it.
    """

    model: Any
    removed: dict[str, Any] = field(default_factory=dict)
    history: list[Row] = field(default_factory=list)
    tokenizer: Any = None


class Transform(Protocol):
    """A module of this package.

    Attributes:
        SPLITS: names of the data's splits that `apply` reads.
    """

    SPLITS: tuple[str, ...]

    def apply(self, model: Any, tokenizer: Any, splits: Mapping[str, Examples], params: Any) -> Outcome:
        """Compress `model`; `splits` holds those of `SPLITS`, `params` is the kind's section."""


def transform(kind: str) -> Transform:
    """Import the module of a kind; the schema admits no kind without one."""
    return importlib.import_module(f"stages.compression.{kind}")  # type: ignore[return-value]
