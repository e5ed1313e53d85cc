"""Released ONNX variants of a language model in one page that writes on what is typed, token by token, offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stages.core import artifact
from stages.reporting.demo import MODULES as MODULES
from stages.reporting.demo import NEEDED as NEEDED
from stages.reporting.demo import Shown, graphs, written

SOURCES = Path(__file__).parent
GOLDEN, TOKENS = 4, 24
"""Texts of the probe, and tokens of each, that the page asks every variant about before it shows it."""


def find(release: Path) -> list[Shown]:
    """Return the bundles that the page can run, in the order of their names."""
    return [_shown(path) for path in graphs(release)]


def render(shown: Sequence[Shown], modules: Path) -> str:
    """Return the page as HTML; the same bundles and modules give the same bytes.

    Args:
        shown: at least one variant.
        modules: `node_modules`.
    """
    first = shown[0].model.parents[1]
    limits = artifact.read_json(first.parent / "limits.json")
    prompts = artifact.read_json(first.parent / "golden.json")["prompts"]
    data = {
        "config": artifact.read_json(first / "tokenizer_config.json"),
        "room": limits["max_length"],
        "stops": limits["generation"]["stop_ids"],
        "tokenizer": artifact.read_json(first / "tokenizer.json"),
    }
    beginning = max((prompt["text"] for prompt in prompts if not prompt["messages"]), key=len)
    return written(SOURCES, shown, modules, data, beginning=beginning, room=limits["max_length"])


def _shown(model: Path) -> Shown:
    bundle = model.parents[2]
    verdict = artifact.read_json(bundle / "verdict.json")
    texts = artifact.read_json(bundle / "probe.json")["utterances"]
    several = [text for text in texts if len(text["ids"]) > 1][:GOLDEN]
    facts = {
        "golden": [{"following": text["following"][:TOKENS], "ids": text["ids"][:TOKENS]} for text in several],
        "interval": verdict["intervals"]["perplexity"],
        "key": bundle.name,
        "n": int(verdict["counts"]["perplexity"]),
        "perplexity": verdict["metrics"]["perplexity"],
        "size_bytes": model.stat().st_size,
    }
    return Shown(bundle.name, model, facts)
