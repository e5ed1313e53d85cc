"""Load and save classification checkpoints in Hugging Face layout: local, safetensors, no remote code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from transformers import logging as transformers_logging

from stages.core.errors import InputError

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()


def load_model(directory: Path) -> Any:
    """Load a classifier for inference.

    Returns:
        A `PreTrainedModel` in fp32 and eval mode with eager attention: the attention every converter
        understands, and the one the reference is computed with.

    Raises:
        InputError: no safetensors weights, or a checkpoint `transformers` cannot load.
    """
    if not (directory / "model.safetensors").is_file():
        raise InputError(f"'{directory}' has no model.safetensors", expected="a Hugging Face directory")
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            directory,
            attn_implementation="eager",
            dtype="float32",
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"cannot load checkpoint '{directory}': {_first_line(error)}") from error
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
        raise InputError(f"cannot load tokenizer of '{directory}': {_first_line(error)}") from error


def save(model: Any, tokenizer: Any, directory: Path) -> None:
    """Write model and tokenizer into an existing directory."""
    model.save_pretrained(directory, safe_serialization=True)
    tokenizer.save_pretrained(directory)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
