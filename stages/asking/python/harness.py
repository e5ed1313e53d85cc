"""Put a question to one client: read it, open the file, answer every item, write down what came.

A client that refuses the file says so in its answer; one that crashes leaves none, and its last words are on stderr.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Question = Mapping[str, Any]
Answer = dict[str, Any]
"""`ids`, the token ids the client made of the text (None where it shows none), and what its task asks for."""
Ask = Callable[[Mapping[str, Any]], Answer]


@dataclass(frozen=True)
class Telling:
    """Answers items, and tells of the opened file what only this client knows.

    Attributes:
        ask: answers one item.
        told: `arena_bytes`, memory that its planner took for everything but the file.
    """

    ask: Ask
    told: Mapping[str, Any]

    def __call__(self, item: Mapping[str, Any]) -> Answer:
        """Answer one item."""
        return self.ask(item)


def main(open_client: Callable[[Question], Ask], *distributions: str) -> None:
    """Answer the question that the command line names.

    Args:
        open_client: opens the file of a question; what it returns answers one item.
        distributions: installed distributions that make up the client.
    """
    question_path, answer_path = map(Path, sys.argv[1:])
    question = json.loads(question_path.read_text(encoding="utf-8"))
    version = ", ".join(f"{name} {metadata.version(name)}" for name in distributions)
    answer_path.write_text(json.dumps({"version": version, **converse(open_client, question)}), encoding="utf-8")


def converse(open_client: Callable[[Question], Ask], question: Question) -> dict[str, Any]:
    """Return `load_ms` and one entry per item, or why the client refused the file."""
    began = time.perf_counter()
    try:
        ask = open_client(question)
    except Exception as error:  # whatever a client raises is its refusal
        return {"refused": " ".join(str(error).split()) or type(error).__name__}
    loaded = time.perf_counter()
    told = {"told": dict(ask.told)} if isinstance(ask, Telling) else {}
    return {"items": [_answer(ask, item) for item in question["items"]], "load_ms": 1e3 * (loaded - began), **told}


def labelled(probabilities: Iterable[float], ids: list[int] | None) -> Answer:
    """Answer with the probability of every label."""
    return {"ids": ids, "probabilities": [float(value) for value in probabilities]}


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities of one utterance."""
    exponents = np.exp(logits - logits.max())
    return np.asarray(exponents / exponents.sum(), np.float32)


def _answer(ask: Ask, item: Mapping[str, Any]) -> dict[str, Any]:
    began = time.perf_counter()
    try:
        given = ask(item)
    except Exception as error:  # one text may be too much for a client that answers others
        return {"error": " ".join(str(error).split()) or type(error).__name__}
    took = time.perf_counter() - began
    return {**given, "ms": 1e3 * took}
