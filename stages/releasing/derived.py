"""What of a bundle follows from other files of it, made again and compared: names of classes and tokens, tokenizers.

A bundle's forms carry copies of its labels and its vocabulary in formats of their own. Whoever edits one of them
changes what an app shows, and no number that was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.releasing import tokenization
from stages.releasing.forms import Form, configured, of_task
from stages.releasing.limits import LIMITS
from stages.releasing.tokenization import Tokenization, lines
from stages.targets.base import read_signature

TOKENIZER = "tokenizer"


def differences(bundle: Path) -> list[str]:
    """Name what does not follow from the bundle's own `tokenizer/` and the names of its classes.

    Args:
        bundle: a directory of a release, complete or about to be.

    Raises:
        ArtifactError: one of the files that the rest follows from is missing or not JSON.
    """
    task = read_signature(bundle).task
    source = tokenization.read(bundle / TOKENIZER, int(artifact.read_json(bundle / LIMITS)["max_length"]))
    found = [f"'{file}' {how}" for file, how in of_task(task).copies(bundle)]
    for form in (form for form in configured(task) if (bundle / form.configured).is_dir()):
        more = of_task(task).tokenizer_settings(source)
        found += _client_files(bundle, form, source, more)
    return [*found, *of_task(task).differences(bundle, source)]


def _client_files(bundle: Path, form: Form, source: Tokenization, more: Mapping[str, Any]) -> Iterator[str]:
    folder, out = form.configured, bundle / form.configured
    wanted = {tokenization.TOKENIZER: source.path.read_bytes()}
    if source.is_bert and source.lines is not None:
        wanted[tokenization.VOCABULARY] = lines(source.lines).encode()
    yield from (f"'{folder}/{name}' is not the tokenizer's" for name in wanted if not _holds(out / name, wanted[name]))
    if not _says(out / tokenization.CONFIG, source.client_config(more, rules_from_file=form.rules_from_file)):
        yield f"'{folder}/{tokenization.CONFIG}' is not what follows from '{TOKENIZER}/{tokenization.CONFIG}'"


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def _says(path: Path, content: object) -> bool:
    try:
        return bool(artifact.read_json(path) == content)
    except ArtifactError:
        return False
