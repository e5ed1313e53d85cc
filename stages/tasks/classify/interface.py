"""How a classifier is called: token ids and mask in, a logit for each class out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.tasks.base import BATCH, Call, Tensor, encoder

if TYPE_CHECKING:
    from stages.schema.task import Task

CALLS = (encoder(Tensor(name="logits", dtype="float32", axes=[BATCH, "classes"])),)


def calls(task: Task) -> tuple[Call, ...]:  # noqa: ARG001 (it is called in the same way at every length)
    """Return the one call."""
    return CALLS


def load(checkpoint: Path, task: Task) -> Any:
    """Return the module to convert: `stages.models.export.ExportModule`, whose name enters every artifact."""
    from stages.models.export import load_export_module

    return load_export_module(checkpoint, task.max_length)
