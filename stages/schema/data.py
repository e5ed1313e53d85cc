"""conf/data: where utterances come from and how they are split."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from stages.core.params import Section

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]


class _Data(Section):
    module: ClassVar[str]
    """Of `stages/data`, which reads it."""
    seed: Seed
    calibration_size: Count
    """Utterances taken out of train for activation ranges, fewer of a small one; never seen in training or test."""
    probe_size: Count
    """Utterances taken out of validation (of train where that is small) for parity; never seen in training or test."""
    probe: Literal["validation", "synthetic"]
    """What they are: those utterances, or texts made up in their place. Bundles carry their token ids."""
    licence: str
    """SPDX identifier or name of the data's licence, for the lineage."""


class Embedded(_Data):
    """Seeded grammar of assistant utterances; needs no download."""

    module: ClassVar[str] = "embedded"
    kind: Literal["embedded"]
    train_size: Count
    validation_size: Count
    test_size: Count
    typo_rate: Annotated[float, Field(ge=0, le=1)]


class Clinc150(_Data):
    """The CLINC150 JSON: keys train, val, test, each a list of [text, intent]."""

    module: ClassVar[str] = "clinc150"
    kind: Literal["clinc150"]
    path: str


class _Learned(_Data):
    """Texts of the user's that a language model may learn."""

    canaries: list[Count]
    """How often made-up secrets are put among train's texts (`stages/data/canaries.py`), for a task that measures what
    its models tell of them; none where empty."""


class Rows(_Learned):
    """Rows of columns, by split; calibration and probe are carved out."""

    train: str
    validation: str | None
    """None: `validation_share` of train."""
    validation_share: Share
    test: str | None
    """None: `test_share` of train, taken out before validation is."""
    test_share: Share
    text_column: str
    label_column: str | None
    """None: texts alone, for a task that needs no labels."""


class _Files(Rows):
    """One file per split."""

    module: ClassVar[str] = "files"


class JsonLines(_Files):
    """One JSON object per line."""

    kind: Literal["jsonl"]


class Csv(_Files):
    """RFC 4180, the first row names the columns."""

    kind: Literal["csv"]
    delimiter: Literal["comma", "semicolon", "tab", "pipe"]


Files = JsonLines | Csv


class Hub(Rows):
    """A data set of the `datasets` library: a hub id with a pinned revision, or a local directory.

    Splits are names there, slices allowed (`train[:90%]`).
    """

    module: ClassVar[str] = "hub"

    kind: Literal["hub"]
    path: str
    revision: str | None


class Text(_Learned):
    """Plain text, cut into pieces at blank lines."""

    module: ClassVar[str] = "text"
    kind: Literal["text"]
    path: str | None
    """A file, or a directory of files named `*.txt`. None: the language reference in every Python."""
    piece_characters: Count
    """Paragraphs are joined until a piece has so many."""
    validation_share: Share
    test_share: Share


class Samples(_Data):
    """Texts that the teacher writes by chance."""

    module: ClassVar[str] = "samples"
    PLACE: ClassVar[str] = "build/samples"
    """What the stage that lets it write makes, and the others read."""
    NAME: ClassVar[str] = "texts.json"
    kind: Literal["samples"]
    texts: Count
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """Divides the logits that tokens are drawn by."""
    validation_share: Share
    test_share: Share


Data = Annotated[Embedded | Clinc150 | JsonLines | Csv | Hub | Text | Samples, Field(discriminator="kind")]
