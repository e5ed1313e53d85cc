"""`coreml/`: the package with what Xcode shows of it, and tokenizer files beside it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.core.errors import ArtifactError
from stages.coreml.proto import model_file, read_model
from stages.releasing.source import Source
from stages.targets.base import SIGNATURE
from stages.tasks.base import INPUTS

FOLDER = "coreml"
PACKAGE = f"{FOLDER}/model.mlpackage"
TOKENIZER = f"{FOLDER}/tokenizer"
SOURCE_PACKAGE = "model.mlpackage"
FEW = 4


def write(source: Source, bundle: Path, about: str, features: Mapping[str, str], more: Mapping[str, str]) -> str:
    """Write the package with descriptions, and run it beside the artifact.

    Args:
        source: the variant.
        bundle: directory to write into.
        about: what the model is.
        features: input, output or state → what it is; those that `padded` tells need not be among them.
        more: what else an app finds in the metadata.

    Returns:
        Where it lies.

    Raises:
        ArtifactError: more than descriptions differs, or it answers otherwise than the artifact.
    """
    (bundle / FOLDER).mkdir()
    shutil.copytree(source.artifact / SOURCE_PACKAGE, bundle / PACKAGE)
    shutil.copyfile(source.artifact / SIGNATURE, bundle / FOLDER / SIGNATURE)
    path = model_file(bundle / PACKAGE)
    model = read_model(path)
    _describe(model.description, source, about, {**padded(source), **features}, more)
    path.write_bytes(model.SerializeToString(deterministic=True))
    check(source, bundle / PACKAGE)
    (bundle / TOKENIZER).mkdir()
    # swift-transformers takes nothing but the model's kind from the tokenizer's class.
    source.configure(bundle / TOKENIZER, rules_from_file=True)
    return PACKAGE


def padded(source: Source) -> dict[str, str]:
    """Say what the inputs of a model are that knows no other calls."""
    lengths = " or ".join(map(str, source.signature.sequence_lengths))
    said = (
        f"Token ids, padded on the right with {source.signature.tokens.pad} to {lengths}.",
        "1 on tokens, 0 on padding.",
    )
    return dict(zip(INPUTS, said, strict=True))


def _describe(
    description: Any, source: Source, about: str, features: Mapping[str, str], more: Mapping[str, str]
) -> None:
    """Fill in place what `MLModel.modelDescription` shows: no name, shape or type changes."""
    for item in (*description.input, *description.output, *description.state):
        item.shortDescription = features[item.name]
    metadata = description.metadata
    metadata.shortDescription = about
    for name, value in (*more.items(), ("max_length", str(source.max_length))):
        metadata.userDefined[name] = value


def check(source: Source, package: Path) -> None:
    """Compare a written package with the artifact's, descriptions aside, and run it beside the artifact.

    Raises:
        ArtifactError: the program differs, or it answers otherwise.
    """
    if _undescribed(source.artifact / SOURCE_PACKAGE) != _undescribed(package):
        raise ArtifactError(f"'{PACKAGE}' of variant '{source.key}' is another program", expected="the artifact's own")
    # The program is the artifact's to the byte: a few texts show that it opens, and interpreting it is slow.
    source.check_directory(PACKAGE, package.parent, {name: value[:FEW] for name, value in source.probe.items()})


def _undescribed(package: Path) -> dict[str, bytes]:
    """Read every file of a package, the program's without its description."""
    program = model_file(package)
    model = read_model(program)
    model.ClearField("description")
    found = {
        path.relative_to(package).as_posix(): path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and path != program
    }
    return found | {program.relative_to(package).as_posix(): model.SerializeToString(deterministic=True)}
