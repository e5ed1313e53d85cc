"""`golden.json`: beginnings, their ids, and how the checkpoint writes them on, for clients to check themselves with.

The beginnings are ours (`generate.PROMPTS`); no text of the data is among them. Text and margins are the fp32
checkpoint's: an artifact of fp32 repeats them, a quantised one until two tokens are nearly as likely.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.core import artifact
from stages.releasing.source import Source
from stages.tasks.base import GREEDY
from stages.tasks.generate import QUESTION
from stages.tasks.generate.forms import rules

GOLDEN = "golden.json"
DIGITS = 4
"""Decimals of a margin."""


def text(source: Source) -> str:
    """Return the file, from what the reference wrote."""
    written = artifact.read_arrays(source.reference / GREEDY)
    stops = rules.stops(rules.defaults(source.checkpoint))
    prompts = [
        _prompt(source, str(written["prompt"][row]), int(written["size"][row]), ids.tolist(), margins.tolist(), stops)
        for row, (ids, margins) in enumerate(zip(written["ids"], written["margin"], strict=True))
        if written["shown"][row]
    ]
    return rules.dumped({"max_length": source.max_length, "prompts": prompts})


def _prompt(
    source: Source, prompt: str, size: int, ids: list[int], margins: list[float], stops: list[int]
) -> dict[str, Any]:
    """Say what is given and what follows, up to the first token that ends a text."""
    backend = source.tokenization.backend
    whole = backend.encode(prompt).ids == ids[:size]
    end = next((at + 1 for at in range(size, len(ids)) if ids[at] in stops), len(ids))
    return {
        "add_special_tokens": whole,
        "continuation": ids[size:end],
        "ended_by": "a stop id" if ids[end - 1] in stops else "max_length",
        "full_text": backend.decode(ids[:end]),
        "ids": ids[:size],
        "margins": [round(margin, DIGITS) for margin in margins[size:end]],
        "messages": None if whole else [{"content": QUESTION, "role": "user"}],
        "text": prompt,
    }


def copies(bundle: Path) -> Iterator[tuple[str, str]]:
    """Name what of a bundle's golden.json its own tokenizer makes otherwise."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer/tokenizer.json"))
    tokenizer.no_truncation()
    for prompt in artifact.read_json(bundle / GOLDEN)["prompts"]:
        asked = tokenizer.encode(prompt["text"], add_special_tokens=prompt["add_special_tokens"]).ids
        if asked != prompt["ids"]:
            yield GOLDEN, f"gives {prompt['text']!r} other ids than the tokenizer"
        elif tokenizer.decode(prompt["ids"] + prompt["continuation"]) != prompt["full_text"]:
            yield GOLDEN, f"writes {prompt['text']!r} on in another text than its ids"
