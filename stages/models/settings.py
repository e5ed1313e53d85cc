"""Take config.json by an allow-list: what the family computes with, what is known to change no answer, nothing else.

transformers takes any key. What its version of a model does not implement (relative positions, since version 5) it sets
aside without a word, and the model answers otherwise than its owner knows it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import GenerationConfig
from transformers.models.auto.tokenization_auto import tokenizer_class_from_name
from transformers.tokenization_python import PythonBackend

from stages.core.errors import InputError
from stages.models.families import find, names, with_head
from stages.models.families.base import ANY, NAME, Family, Rule
from stages.models.heads import check_family, check_head, check_headless, class_name
from stages.models.labelling import LABELLING, check_labelling
from stages.models.rules import LEFT_BEHIND, SILENT, STRUCTURE, TOKENS
from stages.models.shapes import config_class

SHOWN = 60
# `tokenizer_class` is read by AutoTokenizer.
KEPT = {"architectures": ANY, "model_type": NAME, "tokenizer_class": ANY, **STRUCTURE, **TOKENS}


def adopt(path: Path, head: str, labels: list[str] | None = None) -> None:
    """Check a config.json and leave in it what the model is built with.

    Args:
        path: a private copy, rewritten.
        head: what the name of the model's class must end with.
        labels: what a head that it does not have yet will answer; None where it must have one.

    Raises:
        InputError: names the setting that the model would not honour, what is wrong with it, and what to do.
    """
    config = json.loads(path.read_text(encoding="utf-8"))
    family = _family(path, config, head)
    check_family(path, family, head)
    if labels is None:
        check_head(path, config, family, head)
    else:
        check_headless(path, config, family)
        config = {key: value for key, value in config.items() if key not in LABELLING} | {
            "id2label": {str(index): label for index, label in enumerate(labels)},
            "label2id": {label: index for index, label in enumerate(labels)},
        }
    rules = rules_of(family)
    for key, value in config.items():
        _check(path, key, value, rules.get(key))
    for key, value, wanted in _repeated(config, family):
        if value != wanted:
            raise InputError(f"'{path}' has {key}: {_shown(value)}", expected=f"{wanted}, which it says elsewhere")
    _check_shape(path, config, family)
    check_labelling(path, config)
    kept = {key: value for key, value in config.items() if key in _kept(family)}
    kept["architectures"] = [class_name(family, head)]
    path.write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")


def rules_of(family: Family) -> dict[str, Rule]:
    """Return what config.json of a family may say: key → rule."""
    known = {name: rule for name, rule in family.rules.items() if name in _fields(family)}
    aliases = {alias: known[name] for alias, name in _aliases(family).items()}
    copies = {name: known[source] for name, source in family.copies({}).items()}
    return {**left_behind(), **SILENT, **KEPT, **LABELLING, **family.legacy, **aliases, **known, **copies}


def left_behind() -> dict[str, Rule]:
    """Return the settings that change no answer; text generation has many, which old versions wrote everywhere."""
    return {**dict.fromkeys(GenerationConfig._get_default_generation_params(), ANY), **LEFT_BEHIND}


def check_tokenizer_class(directory: Path) -> None:
    """Refuse a tokenizer that is a Python program: it asks for packages of its own, and no app could run it.

    Raises:
        InputError: names the class.
    """
    for name in ("tokenizer_config.json", "config.json"):
        path = directory / name
        given = json.loads(path.read_text(encoding="utf-8")).get("tokenizer_class") if path.is_file() else None
        found = tokenizer_class_from_name(given) if isinstance(given, str) else None
        if found is not None and issubclass(found, PythonBackend) and found is not PythonBackend:
            raise InputError(
                f"'{path}' names the tokenizer '{given}', which splits words by a Python program that no app has",
                expected="a tokenizer that tokenizer.json describes whole",
                next_step="choose a checkpoint of this language whose tokenizer is WordPiece or SentencePiece alone",
            )


def _family(path: Path, config: dict[str, Any], head: str) -> Family:
    named, known = config.get("model_type"), f"one of: {', '.join(with_head(head))}"
    if not named:
        raise InputError(f"'{path}' names no family (model_type)", expected=known)
    if named not in names():
        raise InputError(f"the checkpoint is of family '{named}'", expected=known)
    return find(named)


def _check(path: Path, key: str, value: Any, rule: Rule | None) -> None:
    if rule is None and value is not None:  # null asks for nothing
        raise InputError(
            f"'{path}' has {key}: {_shown(value)}, a setting that would not be honoured here",
            expected="the settings of its family alone",
            next_step=f"remove '{key}' if transformers gives the same answers without it",
        )
    if rule is not None and not rule.fits(value):
        raise InputError(f"'{path}' has {key}: {_shown(value)}", expected=rule.expected, next_step=rule.next_step)


def _repeated(config: dict[str, Any], family: Family) -> Iterator[tuple[str, Any, Any]]:
    """Yield every setting that repeats another one, its value, and what the other one says."""
    copies = {**_aliases(family), **family.copies(config)}
    for key, source in copies.items():
        if key in config and source in config:
            yield key, config[key], config[source]


def _kept(family: Family) -> set[str]:
    """Name the settings that a model is built with."""
    computed = (_fields(family) | _aliases(family).keys()) - (left_behind().keys() - family.rules.keys())
    return computed | family.legacy.keys() | KEPT.keys() | LABELLING.keys()


def _fields(family: Family) -> set[str]:
    return {field.name for field in dataclasses.fields(config_class(family))}


def _aliases(family: Family) -> dict[str, str]:
    found: dict[str, str] = config_class(family).attribute_map
    return found


def _check_shape(path: Path, config: dict[str, Any], family: Family) -> None:
    """Check the settings that must fit each other; what is not given has the default of the family's class."""
    known = family.rules.keys() | _aliases(family).keys()
    described = config_class(family).from_dict({key: value for key, value in config.items() if key in known})
    width = getattr(described, family.attention_width)
    if width % described.num_attention_heads:
        raise InputError(f"'{path}' has {described.num_attention_heads} heads in layers of width {width}")
    pad = described.pad_token_id
    if pad is not None and pad >= described.vocab_size:
        raise InputError(
            f"'{path}' has pad_token_id: {pad}", expected=f"an id below the {described.vocab_size} of vocab_size"
        )


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
