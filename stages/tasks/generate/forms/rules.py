"""What a text begins with, what ends it and how it goes on: what clients need and tokenizer.json alone does not say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.core import artifact
from stages.core.names import GENERATION, TEMPLATE
from stages.releasing.source import Source
from stages.releasing.tokenization import Tokenization

HOUSEKEEPING = {"_from_model_config", "output_attentions", "output_hidden_states", "transformers_version", "use_cache"}
LETTER = "a"


def around(tokenization: Tokenization) -> tuple[list[int], list[int]]:
    """Return the ids that tokenizer.json puts before any text and behind it."""
    whole = tokenization.backend.encode(LETTER).ids
    alone = tokenization.backend.encode(LETTER, add_special_tokens=False).ids
    begin = next(at for at in range(len(whole)) if whole[at : at + len(alone)] == alone)
    return whole[:begin], whole[begin + len(alone) :]


def defaults(checkpoint: Path) -> dict[str, Any]:
    """Return the checkpoint's generation_config.json, or what its config.json says of tokens where it has none."""
    path = checkpoint / GENERATION
    if path.is_file():
        return {key: value for key, value in artifact.read_json(path).items() if key not in HOUSEKEEPING}
    config = artifact.read_json(checkpoint / "config.json")
    return {key: value for key, value in config.items() if key.endswith(("bos_token_id", "eos_token_id"))}


def stops(said: dict[str, Any]) -> list[int]:
    """Return the ids that end a text, of a generation config: none where it names none."""
    ends = said.get("eos_token_id")
    return [] if ends is None else list(ends) if isinstance(ends, Sequence) else [ends]


def template(tokenizer: Path) -> str | None:
    """Return the chat template that lies beside a tokenizer.json, None where there is none."""
    path = tokenizer.with_name(TEMPLATE)
    return path.read_text(encoding="utf-8") if path.is_file() else None


def limits(source: Source) -> dict[str, Any]:
    """Return what `limits.json` says of generating."""
    begin, end = around(source.tokenization)
    said = defaults(source.checkpoint)
    return {
        "generation": {
            "begins_with": begin,
            "chat_template": f"tokenizer/{TEMPLATE}" if template(source.tokenization.path) else None,
            "defaults": {key: value for key, value in said.items() if not key.endswith("_token_id")},
            "ends_with": end,
            "stop_ids": stops(said),
        }
    }


def config(source: Source) -> str:
    """Return generation_config.json for clients: the checkpoint's, bounded by the room that was measured."""
    return dumped({**defaults(source.checkpoint), "max_length": source.max_length})


def tokenizer_settings(source: Tokenization) -> dict[str, Any]:
    """Return what Transformers.js and others take from tokenizer_config.json alone.

    Without `add_bos_token` the text-generation pipeline of Transformers.js leaves out the token that tokenizer.json
    puts before a text, and writes another text without an error; a template in a file of its own is not read by all.
    """
    begin, end = around(source)
    found = template(source.path)
    return {
        "add_bos_token": bool(begin),
        "add_eos_token": bool(end),
        **({} if found is None else {"chat_template": found}),
    }


def dumped(value: Any) -> str:
    """Write JSON as all files of a bundle have it."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"
