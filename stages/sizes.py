"""Stop where the data set is too small for any chosen variant to pass, before anything is built for it.

Reads: the data's summary; thresholds and variants.
Writes: `sizes.json`, texts per split.
Why: a build that fails for the number of its texts alone can say so at once. A threshold that changes must rerun
    neither data nor teacher, so the question has a stage of its own, and nothing depends on it: `dvc repro gate` builds
    and judges all the same.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.core import artifact, cli
from stages.core.errors import InputError
from stages.core.params import Section
from stages.measure.metric import Split
from stages.schema.gate import Gate, shortages
from stages.schema.variant import Variant


class Params(Section):
    """The thresholds, and whose they are."""

    gate: Gate
    variants: dict[str, Variant]


def hopeless(settings: Params, counts: Mapping[Split, int]) -> dict[str, list[str]]:
    """Return variant → why no answers of it could pass on that many texts, for those of which that is so.

    Args:
        settings: thresholds and variants.
        counts: texts by split.
    """
    found = {key: shortages(settings.gate, [one.precision], counts) for key, one in settings.variants.items()}
    return {key: reasons for key, reasons in found.items() if reasons}


def run(settings: Params, data: Path, out: Path) -> None:
    """Compare the sizes of the splits with what the thresholds need.

    Args:
        settings: thresholds and variants.
        data: output of `prepare`.
        out: file to write.

    Raises:
        InputError: no chosen variant could pass, whatever it answers.
    """
    counts: dict[Split, int] = artifact.read_json(artifact.require(data) / "summary.json")["counts"]
    found = hopeless(settings, counts)
    reasons = list(dict.fromkeys(reason for reasons in found.values() for reason in reasons))
    if len(found) == len(settings.variants):
        raise InputError(
            f"no variant can pass on this data set: {'; '.join(reasons)}",
            expected=f"more texts than the {sum(counts.values()):,} there are, or more of them in those splits",
            next_step="move texts there, or lower min_n in conf/gate if fewer are proof enough for you",
        )
    for key, short in found.items():
        print(f"{key} cannot pass on this data set: {'; '.join(short)}", file=sys.stderr)
    artifact.write_json(out, counts)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.stage(__doc__, argv, run, Params, "data", "out")


if __name__ == "__main__":
    sys.exit(main())
