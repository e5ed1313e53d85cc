"""The names of classes in a bundle: where they lie, and whether its copies agree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.releasing.tokenization import lines

FILE, LINES = "labels.json", "labels.txt"


def read(places: Mapping[str, Path]) -> list[str]:
    """Read the data's labels, which the checkpoint must name in the same order.

    Args:
        places: role → stage output of everything behind a bundle.

    Raises:
        ArtifactError: it names others.
    """
    labels: list[str] = artifact.read_json(places["data"] / FILE)
    named = artifact.read_json(places["compressed"] / "config.json").get("id2label", {})
    if [named.get(str(index)) for index in range(len(labels))] != labels or len(named) != len(labels):
        raise ArtifactError(
            f"'{places['compressed']}/config.json' names other labels than '{places['data']}/{FILE}'",
            expected="the same labels in the same order",
            next_step="run `dvc repro`",
        )
    return labels


def differences(bundle: Path, configured: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Compare `labels.txt` and the checkpoint's configurations with `labels.json`.

    Args:
        bundle: a directory of a release.
        configured: directories in it that may hold a `config.json`.

    Yields:
        The file, and how it differs.
    """
    labels = artifact.read_json(bundle / FILE)
    if not (bundle / LINES).is_file() or (bundle / LINES).read_bytes() != lines(labels).encode():
        yield LINES, f"is not the lines of '{FILE}'"
    numbers = {label: index for index, label in enumerate(labels)}
    names = {str(index): label for label, index in numbers.items()}
    for folder in configured:
        if (bundle / folder).is_dir():
            config = artifact.read_json(bundle / folder / "config.json")
            if (config.get("id2label"), config.get("label2id")) != (names, numbers):
                yield f"{folder}/config.json", f"names other labels than '{FILE}'"
