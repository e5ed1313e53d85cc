"""Refuse, by name, what a tokenizer's files say in contradiction to each other, and what no bundle can do."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from stages.core.errors import InputError

CONFIG, FILE, ROLES, ADDED, WORDS = (
    "tokenizer_config.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
)
LISTS = ("additional_special_tokens", "extra_special_tokens")


def _lower_cases(normalise: Callable[[str], str]) -> bool:
    return "A" not in normalise("A")


def _strips_accents(normalise: Callable[[str], str]) -> bool:
    return not any(character == "é" or unicodedata.combining(character) for character in normalise("é"))


def _keeps_accents(normalise: Callable[[str], str]) -> bool:
    return not _strips_accents(normalise)


def _splits_chinese(normalise: Callable[[str], str]) -> bool:
    return " 今 " in normalise("a今a")


STATED = {
    "do_lower_case": _lower_cases,
    "keep_accents": _keeps_accents,
    "strip_accents": _strips_accents,
    "tokenize_chinese_chars": _splits_chinese,
}
"""Setting → how to see whether a normaliser does it."""
SLOW = {"do_basic_tokenize": True, "never_split": None}
"""Settings that only the tokenizers in Python obey, which nothing here runs → the value that asks for nothing."""


def check_settings(directory: Path, loaded: Any, own: Tokenizer, max_length: int) -> None:
    """Hold the files of a tokenizer to each other and to the task.

    Args:
        directory: where they lie.
        loaded: what transformers made of them.
        own: what `tokenizer.json` means alone.
        max_length: the task's, in tokens.

    Raises:
        InputError: names the file, the setting, and what it contradicts.
    """
    config = _json(directory / CONFIG)
    _check_sides(directory, config, loaded, own)
    _check_lengths(directory, loaded, own, max_length)
    _check_normaliser(directory, config, own)
    _check_roles(directory, config, own)
    _check_numbers(directory, config, own)
    if not (directory / FILE).is_file():
        for key, harmless in SLOW.items():
            if config.get(key, harmless) not in (harmless, []):
                raise InputError(
                    f"'{directory / CONFIG}' has {key}: {json.dumps(config[key])}, which only a slow tokenizer obeys",
                    expected=f"{json.dumps(harmless)}, or a tokenizer.json that says it",
                )


def _json(path: Path) -> dict[str, Any]:
    """Read a file that the quarantine has found to be an object, where it is there."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _check_sides(directory: Path, config: dict[str, Any], loaded: Any, own: Tokenizer) -> None:
    sides = {
        "truncation": (loaded.truncation_side, "cuts long texts at their beginning"),
        "padding": (loaded.padding_side, "pads before the text, which moves every position"),
    }
    for name, (side, what) in sides.items():
        key, baked = f"{name}_side", getattr(own, name) or {}
        if "left" in (side, baked.get("direction")):
            raise InputError(
                f"'{directory / (CONFIG if config.get(key) == 'left' else FILE)}' {what} ({key}: left), "
                "and no client of a bundle does",
                expected=f"{key}: right",
                next_step="set it to right if the checkpoint may be used that way",
            )


def _check_lengths(directory: Path, loaded: Any, own: Tokenizer, max_length: int) -> None:
    stated = {CONFIG: ("model_max_length", loaded.model_max_length)}
    if own.truncation:
        stated[FILE] = ("truncation.max_length", own.truncation["max_length"])
    for file, (key, most) in stated.items():
        if isinstance(most, bool) or not isinstance(most, int | float):
            raise InputError(f"'{directory / file}' has {key}: {json.dumps(most)}", expected="a number of tokens")
        if most < max_length:
            raise InputError(
                f"'{directory / file}' cuts texts at {int(most)} tokens ({key}) "
                f"and the task's max_length is {max_length}",
                next_step=f"set task.max_length to {int(most)} or less, or raise {key}",
            )


def _check_normaliser(directory: Path, config: dict[str, Any], own: Tokenizer) -> None:
    def normalise(text: str) -> str:
        return text if own.normalizer is None else str(own.normalizer.normalize_str(text))

    for key, does in STATED.items():
        stated = config.get(key)
        if isinstance(stated, bool) and does(normalise) != stated:
            raise InputError(
                f"'{directory / CONFIG}' says {key}: {json.dumps(stated)} and the normalizer of {FILE} does otherwise",
                expected="files that agree",
                next_step=f"remove or correct {key}: only who trained the checkpoint knows which it was",
            )


def _check_roles(directory: Path, config: dict[str, Any], own: Tokenizer) -> None:
    """A token's role is stated in two files, and its id follows from a third."""
    mapped = _json(directory / ROLES)
    for role in sorted(key for key in {*config, *mapped} if key.endswith("_token")):
        stated = {
            name: _content(given[role])
            for name, given in ((CONFIG, config), (ROLES, mapped))
            if _content(given.get(role)) is not None
        }
        if len(set(stated.values())) > 1:
            raise InputError(
                f"'{directory / CONFIG}' has {role} '{stated[CONFIG]}' and {ROLES} '{stated[ROLES]}'",
                expected="files that agree",
            )
        for name, token in stated.items():
            _require_id(directory / name, token, own)
    for name, given in ((CONFIG, config), (ROLES, mapped)):
        for key in LISTS:
            listed = given.get(key) or []
            for token in listed.values() if isinstance(listed, dict) else listed:
                _require_id(directory / name, _content(token), own)


def _require_id(path: Path, token: str | None, own: Tokenizer) -> None:
    if token is not None and own.token_to_id(token) is None:
        raise InputError(
            f"'{path}' names the token '{token}', which the tokenizer has no id for",
            expected="tokens of the vocabulary",
            next_step="remove it there, or take the tokenizer files that belong together",
        )


def _check_numbers(directory: Path, config: dict[str, Any], own: Tokenizer) -> None:
    """What is numbered beside tokenizer.json must have the number it has there."""
    decoder = config.get("added_tokens_decoder") or {}
    numbered: dict[str, dict[Any, Any]] = {
        CONFIG: {_content(token): index for index, token in decoder.items()},
        ADDED: _json(directory / ADDED),
        WORDS: _words(directory),
    }
    for name, ids in numbered.items():
        for token, index in ids.items():
            found = own.token_to_id(token) if isinstance(token, str) else None
            if str(found) != str(index):
                raise InputError(
                    f"'{directory / name}' gives the token '{token}' the id {index}, the tokenizer {found}",
                    expected="files that agree",
                    next_step="correct the one that is not the checkpoint's",
                )


def _words(directory: Path) -> dict[str, int]:
    """Number the lines of vocab.txt, those left out that are empty or stand there twice."""
    if not ((directory / WORDS).is_file() and (directory / FILE).is_file()):
        return {}
    lines = [line.removesuffix("\r") for line in (directory / WORDS).read_bytes().decode("utf-8").split("\n")]
    places: dict[str, list[int]] = {}
    for index, line in enumerate(lines):
        places.setdefault(line, []).append(index)
    return {line: found[0] for line, found in places.items() if line and len(found) == 1}


def _content(token: Any) -> str | None:
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None
