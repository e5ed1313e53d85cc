"""Read a source of texts that nobody labelled.

Reads: a file of JSON Lines, CSV, or a text in each line.
Writes: `text.jsonl` (`{"text", "label"}` per line, the label null), `manifest.json` with the digest of the file.
Why: what a user's own logs say is nearest to what a student will be asked; the teacher can answer it without labels.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from stages.core import artifact, cli
from stages.core.params import Section
from stages.data.unlabelled import read
from stages.schema.transfer import Transfer


class Params(Section):
    """What the texts are called."""

    transfer: Transfer


def run(settings: Params, source: Path, out: Path) -> None:
    """Read a source; nothing is written when it cannot be used."""
    texts = read(source, settings.transfer.text_column)
    lines = (json.dumps({"text": text, "label": None}, ensure_ascii=False) for text in texts)
    with artifact.writing(out, stage="unlabelled", parents={"source": source}, params=settings) as temporary:
        (temporary / "text.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.stage(__doc__, argv, run, Params, "source", "out")


if __name__ == "__main__":
    sys.exit(main())
