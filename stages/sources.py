"""Write down which files of stages/ each stage is made of, so that an edit reruns what it touches and nothing else.

Reads: stages/, as text.
Writes: `TASK/STAGE.json`: file → its SHA-256; `TASK/STAGE-MODULE.json` where a stage needs the code of one target, or
    of one kind of compression, and of no other.
Why: whatever imports a file depends on it, which nobody should have to write down. DVC reruns a stage whose list is no
    longer the same, and reads one file where it would read dozens, 1,600 in all, several times in every `dvc repro`.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from stages.core import artifact, cli
from stages.core.closure import ROOT, beside, closure

OF_A_TARGET = ("benchmark", "convert", "coverage", "parity", "quantize")
OF_A_COMPRESSION = ("compress",)
OF_ALL = (
    "compose",
    "distill",
    "explain",
    "gate",
    "prepare",
    "reference",
    "release",
    "report",
    "sample",
    "sizes",
    "teacher",
    "transfer",
    "unlabelled",
)


def _packages(room: str) -> list[str]:
    return sorted(path.parent.name for path in (ROOT / "stages" / room).glob("*/__init__.py"))


def units() -> Iterator[tuple[str, Path, set[str]]]:
    """Yield a stage's place here, its module, and the names of packages and modules that it chooses when it runs."""
    targets = _packages("targets")
    kinds = sorted(path.stem for path in (ROOT / "stages/compression").glob("*.py") if path.stem != "__init__")
    for task in _packages("tasks"):
        yield from ((f"{task}/{name}", _module(name), {task, *targets}) for name in OF_ALL)
        for names, modules in ((OF_A_TARGET, targets), (OF_A_COMPRESSION, kinds)):
            for name in names:
                yield from ((f"{task}/{name}-{one}", _module(name), {task, one}) for one in modules)


def _module(stage: str) -> Path:
    return Path("stages") / f"{stage}.py"


def run(out: Path) -> None:
    """Write the lists.

    Args:
        out: directory to write.
    """
    digests: dict[Path, str] = {}
    with artifact.writing(out, stage="sources", parents={}) as temporary:
        for place, module, chosen in units():
            files = closure(module, chosen)
            files |= beside(files)
            for file in files - set(digests):
                digests[file] = hashlib.sha256((ROOT / file).read_bytes()).hexdigest()
            path = temporary / f"{place}.json"
            path.parent.mkdir(exist_ok=True)
            artifact.write_json(path, {file.as_posix(): digests[file] for file in sorted(files)})


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.stage(__doc__, argv, run, None, "out")


if __name__ == "__main__":
    sys.exit(main())
