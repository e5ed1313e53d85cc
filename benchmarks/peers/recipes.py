"""What a recipe is: the commands that lead to a model file, by anyone's tools."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Class = Literal["fp32", "reduced"]
"""Rows are compared within a class; `reduced` is every precision below fp32."""


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        name: unique within a checkpoint.
        command: what to run, in the repository.
        product: file or directory that it must leave behind; tools that fail with exit code 0 are known.
    """

    name: str
    command: tuple[str, ...]
    product: Path


@dataclass(frozen=True)
class Recipe:
    """One row of the table.

    Attributes:
        builder: `olive`, `optimum` or `tinsmith`.
        name: of the row, unique within a checkpoint.
        precision: which rows it is compared with.
        model: the ONNX file.
        steps: names of the steps it needs, in order; their costs are its cost.
    """

    builder: str
    name: str
    precision: Class
    model: Path
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """All that one builder does with one checkpoint."""

    steps: tuple[Step, ...]
    recipes: tuple[Recipe, ...]
