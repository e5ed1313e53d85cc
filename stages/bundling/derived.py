"""What of a bundle follows from other files of it, made again and compared: names of classes and tokens, tokenizers.

A bundle's forms carry copies of its labels and its vocabulary in formats of their own. Whoever edits one of them
changes what an app shows, and no number that was measured.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from stages.bundling import tokenization
from stages.bundling.forms import forms
from stages.bundling.task_metadata import LABELS as TASK_LABELS
from stages.bundling.task_metadata import NAME, describe
from stages.bundling.task_metadata import VOCABULARY as TASK_VOCABULARY
from stages.bundling.tokenization import Tokenization, lines
from stages.core import artifact
from stages.schema.variant import TargetName

LABELS, LABEL_LINES, LIMITS, TOKENIZER = "labels.json", "labels.txt", "limits.json", "tokenizer"
TASK, TEXT, PACKAGE = "litert/task.tflite", "text/model.onnx", "coreml/model.mlpackage"


def differences(bundle: Path) -> list[str]:
    """Name what does not follow from the bundle's own `labels.json` and `tokenizer/`.

    Args:
        bundle: a directory of a release, complete or about to be.

    Raises:
        ArtifactError: one of the files that the rest follows from is missing or not JSON.
    """
    labels, limits = artifact.read_json(bundle / LABELS), artifact.read_json(bundle / LIMITS)
    source = tokenization.read(bundle / TOKENIZER, int(limits["max_length"]))
    found = []
    if not _holds(bundle / LABEL_LINES, lines(labels).encode()):
        found.append(f"'{LABEL_LINES}' is not the lines of '{LABELS}'")
    for form in (form for target in get_args(TargetName) for form in forms(target).FORMS.values()):
        if form.configured and (bundle / form.configured).is_dir():
            found += _client_files(bundle, form.configured, labels, source, form.rules_from_file)
    if (bundle / TASK).is_file():
        found += packed(bundle / TASK, labels, source)
        if not _says(bundle / TASK, describe(str(limits["variant"]))):
            found.append(f"'{TASK}' has other metadata than MediaPipe's for a text classifier of that name")
    if (bundle / TEXT).is_file():
        found += _in_graph(bundle / TEXT, source)
    if (bundle / PACKAGE).is_dir():
        found += in_package(bundle / PACKAGE, labels)
    return found


def _client_files(
    bundle: Path, folder: str, labels: list[str], source: Tokenization, rules_from_file: bool
) -> Iterator[str]:
    out = bundle / folder
    wanted = {tokenization.TOKENIZER: source.path.read_bytes()}
    if source.is_bert and source.lines is not None:
        wanted[tokenization.VOCABULARY] = lines(source.lines).encode()
    yield from (f"'{folder}/{name}' is not the tokenizer's" for name in wanted if not _holds(out / name, wanted[name]))
    if _json(out / tokenization.CONFIG) != source.client_config(rules_from_file=rules_from_file):
        yield f"'{folder}/{tokenization.CONFIG}' is not what follows from '{TOKENIZER}/{tokenization.CONFIG}'"
    config = _json(out / "config.json") or {}
    numbers = {label: index for index, label in enumerate(labels)}
    names = {str(index): label for label, index in numbers.items()}
    if (config.get("id2label"), config.get("label2id")) != (names, numbers):
        yield f"'{folder}/config.json' names other labels than '{LABELS}'"


def packed(path: Path, labels: list[str], source: Tokenization) -> Iterator[str]:
    """Look into the zip behind a task file: it holds two files and no more, each once."""
    wanted = {TASK_VOCABULARY: lines(source.lines or []), TASK_LABELS: lines(labels)}
    if not zipfile.is_zipfile(path):
        yield f"'{TASK}' holds no files, expected {sorted(wanted)}"
        return
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if sorted(names) != sorted(wanted):
            yield f"'{TASK}' holds the files {sorted(names)}, expected {sorted(wanted)}"
            return
        yield from (
            f"'{file}' in '{TASK}' is not the bundle's"
            for file, content in wanted.items()
            if archive.read(file) != content.encode()
        )


def _says(path: Path, metadata: bytes) -> bool:
    from stages.targets.tflite_nnapi import flatbuffer

    model = flatbuffer.read(path)
    found = [bytes(model.buffers[entry.buffer].data) for entry in model.metadata or [] if entry.name == NAME.encode()]
    return found == [metadata]


def _in_graph(path: Path, source: Tokenization) -> Iterator[str]:
    from onnx import helper

    from stages.bundling.text_form import tokenizer_settings
    from stages.targets.onnx_cpu import graph

    node = graph.load(path).graph.node[0]
    found = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    plain = {key: value.decode() if isinstance(value, bytes) else value for key, value in found.items()}
    if plain != tokenizer_settings(source):
        yield f"the tokenizer in '{TEXT}' is not the bundle's"


def in_package(package: Path, labels: list[str]) -> Iterator[str]:
    """Read the labels that Xcode shows."""
    from stages.coreml.proto import model_file, read_model

    found = read_model(model_file(package)).description.metadata.userDefined
    if found["labels"] != json.dumps(labels, ensure_ascii=False):
        yield f"the description of '{PACKAGE}' names other labels than '{LABELS}'"


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
