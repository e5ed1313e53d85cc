"""conf/task: what the model is for, and the shapes it is served at."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from stages.core.params import Section


class Task(Section):
    """One of `stages/tasks`, and the lengths that are served."""

    name: str
    max_length: Annotated[int, Field(ge=4, le=2048)]
    """Longest token sequence, special tokens included; longer texts are truncated and counted."""
    sequence_lengths: Annotated[list[int], Field(min_length=1)]
    """Ascending signature lengths of static-shape artifacts; the last is `max_length`."""

    @model_validator(mode="after")
    def _ascending_to_max(self) -> Task:
        lengths = self.sequence_lengths
        if lengths != sorted(set(lengths)) or lengths[-1] != self.max_length or lengths[0] < 4:
            raise ValueError("sequence_lengths ascend, start at 4 or more and end at max_length")
        return self
