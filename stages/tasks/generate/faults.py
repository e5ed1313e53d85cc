"""What may break in a language model's artifacts, and in what ships beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stages.core.names import GENERATION, TEMPLATE
from stages.injecting.catalogue import ANYWHERE, LAYERS, TABLES, NotApplicable
from stages.injecting.checkpoint import TOKENIZER
from stages.injecting.decoding import DECODING


def whole_numbers(checkpoint: Path) -> None:
    """The tokenizer no longer splits numbers into digits, as transformers rebuilds some of a GGUF file."""

    def without(rules: dict[str, Any]) -> bool:
        parts = (rules["pre_tokenizer"] or {}).get("pretokenizers", [])
        kept = [part for part in parts if part["type"] != "Digits"]
        if len(kept) == len(parts):
            raise NotApplicable("the tokenizer does not split digits")
        rules["pre_tokenizer"]["pretokenizers"] = kept
        return True

    _edit(checkpoint / "tokenizer.json", without)


def unframed_text(checkpoint: Path) -> None:
    """The tokenizer puts nothing before a text, or the word that ends one where it put nothing."""

    def reframed(rules: dict[str, Any]) -> bool:
        if rules["post_processor"] and "SpecialToken" in json.dumps(rules["post_processor"]):
            rules["post_processor"] = None
            return True
        token = next((one for one in rules["added_tokens"] if one["special"]), None)
        if token is None:
            raise NotApplicable("the tokenizer has no special token")
        named = {"id": token["content"], "ids": [token["id"]], "tokens": [token["content"]]}
        single = [
            {"SpecialToken": {"id": token["content"], "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ]
        pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}]
        frame = {"single": single, "pair": pair, "special_tokens": {token["content"]: named}}
        rules["post_processor"] = {"type": "TemplateProcessing", **frame}
        return True

    _edit(checkpoint / "tokenizer.json", reframed)


def foreign_template(checkpoint: Path) -> None:
    """The chat template is another model's."""
    path = checkpoint / TEMPLATE
    path.write_text("{% for turn in messages %}[INST] {{ turn.content }} [/INST]{% endfor %}", encoding="utf-8")


def foreign_end(checkpoint: Path) -> None:
    """Another token ends a text."""

    def ended(said: dict[str, Any]) -> bool:
        end = said.get("eos_token_id")
        said["eos_token_id"] = (end[0] if isinstance(end, list) else end or 0) + 1
        return True

    _edit(checkpoint / GENERATION, ended)


def _edit(path: Path, change: Any) -> None:
    if not path.is_file():
        raise NotApplicable(f"there is no {path.name}")
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


RULES = {fault.__name__: fault for fault in (whole_numbers, unframed_text, foreign_template, foreign_end)}
STORED = {**LAYERS, **DECODING, **TABLES, **ANYWHERE}
INTERFACE = {**TOKENIZER, **RULES}
