"""Released ONNX variants of a language model in one page that writes on what is typed, token by token, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.core import artifact

GOLDEN, TOKENS = 4, 24
"""Texts of the probe, and tokens of each, that the page asks every variant about before it shows it."""


def facts(bundle: Path) -> dict[str, Any]:
    """Return its perplexity and what it wrote on texts of the probe: see `reporting.demo.TaskPage`."""
    verdict = artifact.read_json(bundle / "verdict.json")
    texts = artifact.read_json(bundle / "probe.json")["utterances"]
    several = [text for text in texts if len(text["ids"]) > 1][:GOLDEN]
    return {
        "golden": [{"following": text["following"][:TOKENS], "ids": text["ids"][:TOKENS]} for text in several],
        "interval": verdict["intervals"]["perplexity"],
        "n": int(verdict["counts"]["perplexity"]),
        "perplexity": verdict["metrics"]["perplexity"],
    }


def content(bundle: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return how long a text may be and what ends it, and one that somebody may begin with."""
    limits = artifact.read_json(bundle / "limits.json")
    prompts = artifact.read_json(bundle / "golden.json")["prompts"]
    beginning = max((prompt["text"] for prompt in prompts if not prompt["messages"]), key=len)
    room = limits["max_length"]
    return {"room": room, "stops": limits["generation"]["stop_ids"]}, {"beginning": beginning, "room": room}
