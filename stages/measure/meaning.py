"""Tell whether two `tokenizer.json` cut every text into the same ids, without a text: by the rules they state."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Rules = Mapping[str, Any]
"""`tokenizer.json`, as `tokenizers` writes it."""
PARTS = ("normalizer", "pre_tokenizer", "model", "post_processor", "decoder", "added_tokens")
"""What ids and texts follow from."""
LIMITS = ("truncation", "padding")
"""What a reader of the file alone obeys, and transformers overrides at each call."""
SHOWN = 60


def differences(found: Rules, wanted: Rules, parts: Sequence[str] = (*PARTS, *LIMITS)) -> list[str]:
    """Say, once per part, where two tokenizers' rules part.

    Args:
        found: the rules in question.
        wanted: those they should be.
        parts: keys of `tokenizer.json` to compare.

    Returns:
        `normalizer.lowercase is false, expected true`; empty where both mean the same.
    """
    return [first for part in parts if (first := _first(found.get(part), wanted.get(part), part))]


def rules_of(tokenizer: Any) -> dict[str, Any]:
    """Read the rules of a `tokenizers.Tokenizer`."""
    rules: dict[str, Any] = json.loads(tokenizer.to_str())
    return rules


def vocabulary(rules: Rules) -> dict[str, int]:
    """Map every token to its id, added ones included."""
    words = rules["model"]["vocab"]
    if isinstance(words, list):  # SentencePiece's unigrams are pairs of piece and score
        words = {piece: index for index, (piece, _) in enumerate(words)}
    return {**words, **{token["content"]: token["id"] for token in rules["added_tokens"]}}


def pruned(rules: Rules, ids: Mapping[int, int]) -> dict[str, Any]:
    """Take all but some tokens out of a tokenizer and number the rest anew; every rule stays.

    Args:
        rules: of WordPieces or whole words.
        ids: old id → new id of the tokens that stay, every added one among them.
    """
    whole: dict[str, Any] = json.loads(json.dumps(rules))
    words = whole["model"]["vocab"]
    whole["model"]["vocab"] = {piece: ids[index] for piece, index in words.items() if index in ids}
    for token in whole["added_tokens"]:
        token["id"] = ids[token["id"]]
    for processor in _processors(whole.get("post_processor")):
        for token in processor.get("special_tokens", {}).values():
            token["ids"] = [ids[index] for index in token["ids"]]
        for role in ("cls", "sep"):  # BertProcessing, RobertaProcessing: pairs of token and id
            if role in processor:
                processor[role] = [processor[role][0], ids[processor[role][1]]]
    if whole.get("padding"):
        whole["padding"]["pad_id"] = ids[whole["padding"]["pad_id"]]
    return whole


def _processors(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for child in node.get("processors", ()):
            yield from _processors(child)


def _first(found: Any, wanted: Any, path: str) -> str:
    """Name the first place where two JSON trees part; nothing where they are one."""
    if found == wanted:
        return ""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted({*found, *wanted}):
            place = f"{path}.{key}" if key.isidentifier() else f"{path}['{key}']"
            if key not in wanted:
                return f"{place} should not be there"
            if key not in found:
                return f"{place} is missing"
            if first := _first(found[key], wanted[key], place):
                return first
    if isinstance(found, list) and isinstance(wanted, list):
        if len(found) != len(wanted):
            return f"{path} has {len(found)} entries, expected {len(wanted)}"
        pairs = enumerate(zip(found, wanted, strict=True))
        return next(first for index, (one, other) in pairs if (first := _first(one, other, f"{path}[{index}]")))
    return f"{path} is {_short(found)}, expected {_short(wanted)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
