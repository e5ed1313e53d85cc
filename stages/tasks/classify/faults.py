"""What may break in a text classifier, and in what ships beside it."""

from __future__ import annotations

from pathlib import Path

from stages.injecting.catalogue import ANYWHERE, CLASSES, LAYERS, MASKS, TABLES
from stages.injecting.checkpoint import LABELS, TOKENIZER, edit_config


def multi_label_config(checkpoint: Path) -> None:
    """The config has clients answer each class by itself, with a sigmoid."""
    edit_config(checkpoint, problem_type="multi_label_classification")


STORED = {**LAYERS, **MASKS, **TABLES, **CLASSES, **ANYWHERE}
INTERFACE = {**LABELS, "multi_label_config": multi_label_config, **TOKENIZER}
