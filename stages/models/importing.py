"""Take in a checkpoint from outside: a local directory or a hub repository at a pinned commit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file

from stages.core.errors import ConfigError, InputError, first_line
from stages.core.names import GENERATION
from stages.models import shards
from stages.models.checkpoint import load_config, load_model, reshaped
from stages.models.contents import ADAPTERS, CONFIG, INDEX, WEIGHTS
from stages.models.families import family_of
from stages.models.families.base import setting
from stages.models.header import read_json
from stages.models.heads import class_of
from stages.models.quarantine import LOADED, checked
from stages.models.settings import adopt, check_tokenizer_class
from stages.models.tensors import match, require_finite
from stages.models.tokenizing import take_in
from stages.schema.model import ImportLimits

COMMIT = re.compile(r"[0-9a-f]{40}")
CULPRITS_SHOWN = 5
MODULES = "modules.json"
SHARDS = "model-*-of-*.safetensors"
GGUF = ".gguf"


@contextmanager
def opened(path: str, revision: str | None, limits: ImportLimits) -> Iterator[tuple[Path, dict[str, Path]]]:
    """Give the directory of a checkpoint: downloaded where `path` is a hub id, unpacked where it is a file in GGUF.

    Args:
        path: a local directory, a local file in GGUF, or a hub id.
        revision: None for what is local; the commit hash, 40 hex digits, for a hub id.
        limits: what it may ask of this machine.

    Yields:
        The directory in Hugging Face layout, there while the block runs, and name → file that it was read from.

    Raises:
        ConfigError: something local with a revision, or a revision that can move.
        InputError: there is no such directory or file, or the hub does not answer with one.
    """
    place = Path(path).expanduser()
    if place.exists() and revision is not None:
        raise ConfigError(f"'{path}' is local and has no revision", next_step="set revision: null")
    if place.suffix == GGUF and place.is_file():
        from stages.models import gguf

        with TemporaryDirectory(prefix="tinsmith-gguf-") as scratch:
            gguf.unpack(place, Path(scratch), limits)
            yield Path(scratch), {place.name: place}
        return
    place = _encoder(place) if place.is_dir() else _fetched(path, revision)
    read = [*LOADED, *shards.names(place)]
    yield place, {name: place / name for name in read if (place / name).is_file()}


def _encoder(directory: Path) -> Path:
    """Find the encoder of a directory of sentence-transformers, whose first module may lie below it (modules.json).

    Raises:
        InputError: modules.json names a place that is none of the directories there.
    """
    listing = directory / MODULES
    if (directory / CONFIG).is_file() or not listing.is_file():
        return directory
    modules = read_json(listing)
    first = modules[0] if isinstance(modules, list) and modules and isinstance(modules[0], dict) else {}
    name = first.get("path")
    if not isinstance(name, str) or name not in [below.name for below in directory.iterdir() if below.is_dir()]:
        raise InputError(
            f"'{listing}' does not say which directory here the encoder lies in",
            expected="a first module with its `path`, as sentence-transformers writes it",
            next_step="give the directory with the encoder's config.json",
        )
    return directory / name


def _fetched(path: str, revision: str | None) -> Path:
    if revision is None:
        raise InputError(
            f"'{path}' is not a directory",
            expected="a local Hugging Face directory or GGUF file (or a hub id together with a pinned revision)",
        )
    if not COMMIT.fullmatch(revision):
        raise ConfigError(f"revision '{revision}' can move", expected="a commit hash of 40 hex digits")
    return _download(path, revision)


def read(directory: Path, labels: list[str], max_length: int, limits: ImportLimits, head: str) -> tuple[Any, Any]:
    """Load a checkpoint from outside and check that it fits the data.

    Args:
        directory: in Hugging Face layout.
        labels: class names of the data; the index is the class id. None where the classes are the tokens.
        max_length: longest token sequence it must take.
        limits: what it may ask of this machine.
        head: what the name of its class must end with.

    Returns:
        Model and tokenizer. Class ids are those of `labels`: the head's rows are permuted where the
        checkpoint numbers the same names in another order.

    Raises:
        InputError: the checkpoint is incomplete, corrupt, pickled, wants to run its own code or more of this machine
            than it may, is of another family, or does not agree with its tokenizer, the labels or the length.
    """
    with checked(directory, limits) as private:
        adopt(private / CONFIG, head)
        _check_described(private, max_length, limits)
        model = load_model(private)
        require_finite(private, model)
        _check_generation(private, model)
        tokenizer = take_in(private, model, max_length)
    if labels:
        adopt_labels(model, labels)
    return model, tokenizer


def read_headless(
    directory: Path, labels: list[str], max_length: int, limits: ImportLimits, head: str
) -> tuple[Any, Any, frozenset[str]]:
    """Load a pretrained encoder from outside under a new head.

    Args:
        directory: in Hugging Face layout.
        labels: what the head will answer; the index is the class id.
        max_length: longest token sequence it must take.
        limits: what it may ask of this machine.
        head: what the name of the model's class must end with.

    Returns:
        Model, tokenizer, and the names of the weights that the checkpoint does not have.

    Raises:
        InputError: as `read`; it has a head already, or is no encoder.
    """
    with checked(directory, limits) as private:
        adopt(private / CONFIG, head, labels)
        _check_described(private, max_length, limits)
        try:
            model = reshaped(load_config(private)).eval()
            names, tensors = match(private / WEIGHTS, model, headless=True), load_file(private / WEIGHTS)
        except (OSError, SafetensorError) as error:
            raise InputError(f"cannot load checkpoint '{private}': {first_line(error)}") from error
        model.load_state_dict({target: tensors[name] for name, target in names.items()}, strict=False)
        require_finite(private, model)
        tokenizer = take_in(private, model, max_length)
    given = {id(weight) for name, weight in model.named_parameters() if name in names.values()}
    return model, tokenizer, frozenset(name for name, weight in model.named_parameters() if id(weight) not in given)


def _check_described(directory: Path, max_length: int, limits: ImportLimits) -> None:
    """Refuse what settings alone show to be too large, too short, or without a tokenizer that an app could run."""
    check_tokenizer_class(directory)
    config = _config(directory)
    _check_shape(directory, config, limits)
    positions = family_of(config).positions(config)
    if positions < max_length:
        raise InputError(
            f"'{directory}' has {positions} positions and the task's max_length is {max_length}",
            next_step="lower task.max_length",
        )


def _check_generation(directory: Path, model: Any) -> None:
    """Refuse what transformers would not save again, and ends of text that are no tokens."""
    said = getattr(model, "generation_config", None)
    if said is None:
        return
    path = directory / GENERATION
    try:
        said.validate(strict=True)
    except ValueError as error:
        why = " ".join(str(error).split())
        raise InputError(f"'{path}' contradicts itself: {why[:200]}", next_step="correct or remove it") from error
    rows = model.get_input_embeddings().num_embeddings
    ends = said.eos_token_id if isinstance(said.eos_token_id, list) else [said.eos_token_id]
    wrong = [one for one in ends if one is not None and not (type(one) is int and 0 <= one < rows)]
    if wrong:
        raise InputError(f"'{path}' has eos_token_id {wrong[0]!r}", expected=f"ids below {rows}")


def adopt_labels(model: Any, labels: list[str]) -> None:
    """Renumber a classifier's outputs so that output i answers `labels[i]`.

    Raises:
        InputError: the checkpoint answers other labels than the data has.
    """
    ids = {str(name): int(index) for index, name in model.config.id2label.items()}
    missing, extra = sorted(set(labels) - set(ids)), sorted(set(ids) - set(labels))
    if missing or extra or len(ids) != model.config.num_labels:
        raise InputError(
            f"the checkpoint's labels are not the data's: {_listed('missing', missing)}, {_listed('extra', extra)}",
            expected=f"the {len(labels)} names of labels.json",
            next_step="set id2label in the checkpoint's config.json, or choose the data it was trained on",
        )
    order = torch.tensor([ids[label] for label in labels])
    with torch.no_grad():
        for tensor in model.get_submodule(family_of(model.config).head).parameters():
            tensor.copy_(tensor[order].clone())
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: index for index, label in enumerate(labels)}


def _download(path: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(path, revision=revision, allow_patterns=[*LOADED, INDEX, SHARDS, *ADAPTERS]))
    except (OSError, HFValidationError) as error:  # the hub's own errors derive from OSError
        raise InputError(
            f"cannot download '{path}' at {revision[:12]}: {first_line(error)}",
            next_step="check the id and the network, or give a local directory",
        ) from error


def _config(directory: Path) -> Any:
    try:
        return load_config(directory)
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise InputError(f"cannot load '{directory / 'config.json'}': {first_line(error)}") from error


def _check_shape(directory: Path, config: Any, limits: ImportLimits) -> None:
    """Refuse a model too large to build: weights the file lacks would be allocated before anyone sees they are missing.

    On the meta device a model has shapes and no memory.
    """
    layers = setting(config, family_of(config).layers)
    if type(layers) is not int or layers > limits.layers:
        raise InputError(
            f"'{directory / 'config.json'}' has {layers} layers",
            expected=f"at most {limits.layers} (teacher.limits.layers)",
        )
    try:
        with torch.device("meta"):
            parameters = sum(one.numel() for one in class_of(config)._from_config(config).parameters())
    except (ValueError, KeyError, TypeError, RuntimeError, ZeroDivisionError) as error:
        raise InputError(f"'{directory / 'config.json'}' describes no model: {first_line(error)}") from error
    if parameters > limits.parameters:
        raise InputError(
            f"'{directory / 'config.json'}' describes a model of {parameters} parameters",
            expected=f"at most {limits.parameters} (teacher.limits.parameters)",
        )


def _listed(word: str, names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:CULPRITS_SHOWN])
    return f"{len(names)} {word}" + (f" ({shown}{', …' if len(names) > CULPRITS_SHOWN else ''})" if names else "")
