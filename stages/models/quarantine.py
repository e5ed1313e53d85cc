"""Copy what would be loaded of a checkpoint from outside, and nothing else, to a private place, and check it there.

What was checked is what is loaded, byte for byte; whatever else lies in the directory (pickles, code, adapters) is
never opened.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from stages.core.errors import InputError
from stages.core.names import GENERATION, TEMPLATE
from stages.models import confined, contents, shards, trial
from stages.models.contents import CONFIG, INDEX, TOKENIZERS, WEIGHTS
from stages.models.header import check_header, read_json
from stages.schema.model import ImportLimits

LOADED = (
    CONFIG,
    WEIGHTS,
    "added_tokens.json",
    TEMPLATE,
    GENERATION,
    "special_tokens_map.json",
    "tokenizer_config.json",
    *TOKENIZERS,
)


@contextmanager
def checked(directory: Path, limits: ImportLimits) -> Iterator[Path]:
    """Yield a private copy of a checkpoint that is safe to hand to the libraries that load it.

    Args:
        directory: in Hugging Face layout, as it came.
        limits: what it may ask of this machine.

    Raises:
        InputError: names the file and what is wrong with it, here and in the block, under the directory's own name.
    """
    contents.require(directory)
    with TemporaryDirectory(prefix="tinsmith-import-") as temporary:
        private = Path(temporary)
        try:
            for name in LOADED:
                copy(directory, name, private, limits)
            if not (private / WEIGHTS).is_file():
                copy(directory, INDEX, private, limits)
                shards.join(private, limits, lambda name: copy(directory, name, private, limits))
            _check_json(private, limits)
            check_header(private / WEIGHTS, limits)
            _try_tokenizer(private, limits)
            yield private
        except InputError as error:
            raise InputError(str(error).replace(str(private), str(directory))) from error


def copy(directory: Path, name: str, private: Path, limits: ImportLimits) -> None:
    """Copy one file if it is there.

    Raises:
        InputError: it is a link out of the directory, no regular file, or larger than the limits allow.
    """
    path = directory / name
    if not os.path.lexists(path):
        return
    left = limits.total_bytes - sum(copied.stat().st_size for copied in private.iterdir())
    most = min(left, limits.total_bytes if name.endswith(".safetensors") else limits.json_bytes)
    with _open(directory, path) as source:
        size = os.fstat(source.fileno()).st_size
        if size > most:
            raise InputError(f"'{path}' has {size} bytes", expected=f"at most {most} (teacher.limits)")
        with (private / name).open("wb") as target:
            shutil.copyfileobj(source, target)


def _open(directory: Path, path: Path) -> BinaryIO:
    """Open a regular file inside the directory, or one in the hub's cache that the directory is a snapshot of."""
    home = directory.resolve()
    real = path.resolve()
    if not real.is_relative_to(home) and not real.is_relative_to(home.parent.parent / "blobs"):
        raise InputError(f"'{path}' is a link that leaves the directory", next_step="put the file itself there")
    try:
        # Without O_NONBLOCK a named pipe would hold the stage for ever; O_NOFOLLOW: `real` is no link any more.
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"'{path}' is no regular file")
    return os.fdopen(descriptor, "rb")


def _check_json(private: Path, limits: ImportLimits) -> None:
    """Look at settings as plain data, for what would make a library run code, open files or take memory."""
    for path in sorted(set(private.glob("*.json")) - {private / "tokenizer.json"}):
        parsed = _parse(path)
        for keys, value in _walk(parsed):
            key = keys[-1]
            if key == "auto_map":
                raise InputError(f"'{path}' names code of its own (auto_map), which is never run")
            if re.search(r"_files?$", key) and _leaves(value):
                raise InputError(
                    f"'{path}' points at a file elsewhere ({'.'.join(keys)}: {json.dumps(value)[:60]})",
                    next_step="remove that key",
                )
            if path.name == CONFIG and type(value) is int and abs(value) > limits.integer:
                raise InputError(
                    f"'{path}' has {'.'.join(keys)}: {value}",
                    expected=f"no number above {limits.integer} (teacher.limits.integer)",
                )
        if path.name == CONFIG and "quantization_config" in parsed:
            raise InputError(f"'{path}' describes quantised weights (quantization_config)", expected="float weights")


def _parse(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict):
        raise InputError(f"'{path}' is not a JSON object")
    return found


def _walk(tree: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the keys on the way to every value, and the value; however deep, at no cost in stack."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), tree)]
    while waiting:
        keys, node = waiting.pop()
        if keys:
            yield keys, node
        if isinstance(node, dict):
            waiting += [((*keys, str(key)), value) for key, value in node.items()]
        elif isinstance(node, list):
            waiting += [(keys, value) for value in node if isinstance(value, dict | list)]


def _leaves(value: Any) -> bool:
    """Whether a value names a file that is not simply in the same directory."""
    items = value if isinstance(value, list) else [value]
    return any(isinstance(item, str) and re.search(r"[/\\:~]|^\.\.$", item) for item in items)


def _try_tokenizer(private: Path, limits: ImportLimits) -> None:
    path = next((private / name for name in TOKENIZERS if (private / name).is_file()), None)
    if path is None or path.suffix == ".txt":
        return
    reason = confined.run(
        Path(trial.__file__),
        str(path),
        str(limits.tokenizer_growth),
        memory_bytes=limits.memory_bytes,
        cpu_seconds=limits.cpu_seconds,
    )
    if reason:
        raise InputError(
            f"the tokenizer '{path}' cannot be used: {reason}",
            expected="a tokenizer that stays within teacher.limits (it was tried in a process of its own)",
        )
