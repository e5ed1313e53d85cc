"""conf/data: where utterances come from and how they are split."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stages.core.params import Section

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]


class _Data(Section):
    seed: Seed
    calibration_size: Count
    """Utterances taken out of train for activation ranges; never seen in training or test."""
    probe_size: Count
    """Utterances taken out of validation for parity; never seen in training or test."""
    probe: Literal["validation", "synthetic"]
    """What they are: those utterances, or texts made up in their place. Bundles carry their token ids."""
    licence: str
    """SPDX identifier or name of the data's licence, for the lineage."""


class Embedded(_Data):
    """Seeded grammar of assistant utterances; needs no download."""

    kind: Literal["embedded"]
    train_size: Count
    validation_size: Count
    test_size: Count
    typo_rate: Annotated[float, Field(ge=0, le=1)]


class Clinc150(_Data):
    """The CLINC150 JSON: keys train, val, test, each a list of [text, intent]."""

    kind: Literal["clinc150"]
    path: str


class Files(_Data):
    """One JSON Lines or CSV file per split; calibration and probe are carved out."""

    kind: Literal["jsonl", "csv"]
    train: str
    validation: str
    test: str
    text_column: str
    label_column: str


class Hub(_Data):
    """A data set of the `datasets` library: a hub id with a pinned revision, or a local directory."""

    kind: Literal["hub"]
    path: str
    revision: str | None
    train: str
    validation: str
    test: str
    """Split names, slices allowed (`train[:90%]`)."""
    text_column: str
    label_column: str


Data = Annotated[Embedded | Clinc150 | Files | Hub, Field(discriminator="kind")]
