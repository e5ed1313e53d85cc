"""conf/transfer: the texts that a teacher answers once, for every student to learn from."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from stages.core.params import Section

Copies = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]


class NoTransfer(Section):
    """The train split alone, answered while a student learns from it."""

    kind: Literal["none"]


class Transfer(Section):
    """The train split, copies of it, and unlabelled texts.

    What is right of a text is taken to be right of its `altered` copies; of all others the teacher alone says.
    """

    PLACE: ClassVar[str] = "build/transfer"
    TEXTS: ClassVar[str] = "build/text"
    """Below it lies a directory for each source, by its number."""
    kind: Literal["texts"]
    altered: Copies
    """Copies of each text with tokens dropped, masked, or taken from another text."""
    near: list[Share]
    """For each entry a copy of each text, with that share of its words replaced by near ones of the teacher's space."""
    neighbours: Annotated[int, Field(ge=1)]
    """How many near ones a word has."""
    halves: Copies
    """Copies that begin with the first half of each text and end with the second half of another."""
    text: list[str]
    """Files of unlabelled texts: JSON Lines (.jsonl), CSV (.csv), or else a text in each line."""
    text_column: str
    """What the texts are called in JSON Lines and CSV."""
    text_share: Annotated[float, Field(gt=0, lt=1)]
    """The most that such texts may be of all that is learnt from; beyond, as many are drawn by chance."""
    arithmetic: Literal["fp32", "bf16"]
    """What the teacher computes in: answers of bf16 are kept in fp16, those of fp32 as they are."""
    seed: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _each_source_once(self) -> Any:
        if len(set(self.text)) < len(self.text):
            raise ValueError("text names a file twice")
        return self


AnyTransfer = Annotated[NoTransfer | Transfer, Field(discriminator="kind")]
