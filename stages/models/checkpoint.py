"""Load and save checkpoints in Hugging Face layout: local, safetensors, no remote code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer
from transformers import logging as transformers_logging
from transformers.utils import is_torchao_available

from stages.core.errors import InputError, Unsupported, first_line
from stages.core.process import hidden
from stages.models.blocks import pruned_heads, remove_heads
from stages.models.heads import class_of
from stages.models.reshape import (
    low_rank,
    lower_rank,
    replace_activations,
    replaced_activations,
    share_layers,
    shared_layers,
)
from stages.models.tensors import match

# Every model would import it, for weights of 8 bits, and it warns each time about CUDA kernels that a CPU cannot load.
with hidden(("torchao",)):
    is_torchao_available()  # remembers its answer
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

WEIGHTS = "model.safetensors"
LOAD_OPTIONS = ("is_local", "local_files_only")


def load_model(directory: Path) -> Any:
    """Load a model for inference, as the class that it was saved as.

    Returns:
        A `PreTrainedModel` in fp32 and eval mode with eager attention: the attention every converter
        understands, and the one the reference is computed with.

    Raises:
        InputError: no safetensors weights, a checkpoint `transformers` cannot load, or one whose tensors are not
            exactly the model's weights (of a bare encoder the classification head would be random).
    """
    if not (directory / WEIGHTS).is_file():
        raise InputError(f"'{directory}' has no {WEIGHTS}", expected="a Hugging Face directory")
    try:
        config = load_config(directory)
        stock = not (pruned_heads(config) or low_rank(config) or shared_layers(config) or replaced_activations(config))
        model = _load_stock(directory, config) if stock else _load_reshaped(directory, config)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, Unsupported) as error:
        raise InputError(f"cannot load checkpoint '{directory}': {first_line(error)}") from error
    return model.eval()


def load_config(directory: Path) -> Any:
    """Load a checkpoint's configuration without its weights."""
    return AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)


def load_tokenizer(directory: Path) -> Any:
    """Load a checkpoint's fast tokenizer.

    Raises:
        InputError: there is none that loads.
    """
    try:
        return AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raises bare Exception on a malformed tokenizer.json
        raise InputError(f"cannot load tokenizer of '{directory}': {first_line(error)}") from error


def save(model: Any, tokenizer: Any, directory: Path) -> None:
    """Write model and tokenizer into an existing directory.

    A weight with several names is written once, and every weight under the name it has in the model: left alone,
    transformers writes the names of the file it was loaded from, which a reshaped model could not be loaded by.
    """
    once = {tensor.data_ptr(): name for name, tensor in reversed(model.state_dict().items())}
    kept = {name: tensor for name, tensor in model.state_dict().items() if once[tensor.data_ptr()] == name}
    model.save_pretrained(directory, state_dict=kept, save_original_format=False)
    if hasattr(model, "num_labels"):
        _spell_labels(model.config, directory / "config.json")
    save_tokenizer(tokenizer, directory)


def save_tokenizer(tokenizer: Any, directory: Path) -> None:
    """Write a tokenizer's files into an existing directory, without the limits that its last call left behind."""
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    for option in LOAD_OPTIONS:  # how it was loaded here is no property of the tokenizer
        tokenizer.init_kwargs.pop(option, None)
    tokenizer.save_pretrained(directory)


def _spell_labels(config: Any, path: Path) -> None:
    """Name the labels where transformers does not: two that are called `LABEL_0` and `LABEL_1` are its default."""
    written = json.loads(path.read_text(encoding="utf-8"))
    if {"id2label", "label2id"} <= written.keys():
        return
    written |= {"id2label": {str(index): name for index, name in config.id2label.items()}, "label2id": config.label2id}
    path.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _load_stock(directory: Path, config: Any) -> Any:
    with torch.device("meta"):  # shapes and no memory
        described = class_of(config)._from_config(config, attn_implementation="eager")
    match(directory / WEIGHTS, described)
    model, info = class_of(config).from_pretrained(
        directory,
        attn_implementation="eager",
        dtype="float32",
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
    )
    if info["missing_keys"]:
        raise InputError(f"transformers finds no '{min(info['missing_keys'])}' in '{directory}'")
    return model


def _load_reshaped(directory: Path, config: Any) -> Any:
    """Load a checkpoint with structure that transformers records but does not act on.

    Before: `from_pretrained` builds full layers and stops at the smaller weights. After: the layers are shared, cut to
    the recorded heads and lowered to the recorded ranks first, then take the weights.
    """
    model = reshaped(config)
    names, tensors = match(directory / WEIGHTS, model), load_file(directory / WEIGHTS)
    # Not strict: a weight with several names is written under one of them, and `match` has missed none.
    model.load_state_dict({target: tensors[name] for name, target in names.items()}, strict=False)
    return model


def reshaped(config: Any) -> Any:
    """Build the model that a configuration describes, its structure included, with random weights in fp32."""
    heads, ranks, groups = pruned_heads(config), low_rank(config), shared_layers(config)
    activations = replaced_activations(config)
    config.pruned_heads, config.low_rank = {}, {}
    for name in ("shared_layers", "replaced_activations"):
        vars(config).pop(name, None)
    model = class_of(config)._from_config(config, attn_implementation="eager", dtype="float32")
    if groups:
        share_layers(model, groups)
    remove_heads(model, heads)
    lower_rank(model, ranks)
    if activations:
        replace_activations(model, activations)
    return model
