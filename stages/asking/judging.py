"""Compare a client's answers with the artifact's own: the gate judged those, so a client may only repeat them.

A client that shows the tokens it made is held to them. Of one that does not, an edge text counts as tokenised otherwise
where its answer is further from the artifact's answer to the reference's tokens than twice the farthest utterance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stages.asking.question import Answers, Item, Probabilities, Question
from stages.schema.clients import Bound

ROUNDING = 1e-4
"""Probabilities this near are equal whatever computed them."""


def judge(
    asked: Question, expected: Answers, answer: Mapping[str, Any], bound: Bound, reads_text: bool
) -> dict[str, Any]:
    """Turn an answer into an entry of `clients.json`.

    Args:
        asked: the question.
        expected: what the client has to repeat.
        answer: what `interview` brought back.
        bound: how nearly the client must repeat the artifact.
        reads_text: whether it tokenised by itself.

    Returns:
        `verdict` (`pass`, `fail`, or `refuses` where it would not open the file), `reason`, `version`, and what was
        measured where it answered.
    """
    entry = {"verdict": "fail", "version": answer.get("version", "")}
    for end, verdict in (("crashed", "fail"), ("refused", "refuses")):
        if end in answer:
            return {**entry, "reason": answer[end], "verdict": verdict}
    given = answer["items"][: len(asked.utterances)]
    errors = [item["error"] for item in given if "error" in item]
    if errors:
        return {**entry, "reason": f"{len(errors)} of {len(given)} utterances got no answer: {errors[0]}"}
    measured = _measure(asked, expected, given)
    edges = answer["items"][len(asked.utterances) :] if reads_text else []
    found = {
        **measured,
        "edges": _edges(asked, expected, edges, measured["max_probability_difference"]) if reads_text else None,
        "latency_p50_ms": float(np.median([item["ms"] for item in given])),
        "load_time_ms": answer["load_ms"],
        "tokens_equal": _tokens(asked.utterances, given) if reads_text else None,
    }
    said = _said(found, bound)
    return {**entry, **found, "reason": "; ".join(said), "verdict": "fail" if said else "pass"}


def _measure(asked: Question, expected: Answers, given: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    probabilities = np.array([item["probabilities"] for item in given])
    if not np.isfinite(probabilities).all():
        probabilities = np.where(np.isfinite(probabilities), probabilities, -1.0)
    return {
        "max_probability_difference": float(np.abs(probabilities - expected.utterances).max()),
        "n": len(given),
        "top1_agreement": _agreement(probabilities, expected.utterances),
        "top1_agreement_with_reference": _agreement(probabilities, asked.reference),
    }


def _agreement(first: Probabilities, second: Probabilities) -> float:
    return float((first.argmax(axis=-1) == second.argmax(axis=-1)).mean())


def _tokens(utterances: Sequence[Item], given: Sequence[Mapping[str, Any]]) -> int | None:
    """Count the utterances whose tokens are the reference's; None where the client shows none."""
    if any(item["ids"] is None for item in given):
        return None
    return sum(bool(item["ids"] == asked.ids) for item, asked in zip(given, utterances, strict=True))


def _edges(asked: Question, expected: Answers, given: Sequence[Mapping[str, Any]], farthest: float) -> dict[str, Any]:
    """Name the edge texts that the client tokenises otherwise than the reference."""
    different = [
        edge.name
        for edge, item, own in zip(asked.edges, given, expected.edges, strict=True)
        if _otherwise(edge, item, own, 2 * farthest + ROUNDING)
    ]
    shown = all(item.get("ids") is not None for item in given if "error" not in item)
    return {"different": different, "n": len(asked.edges), "shown": shown}


def _otherwise(edge: Item, item: Mapping[str, Any], expected: Probabilities, slack: float) -> bool:
    if "error" in item:
        return True
    if item["ids"] is not None:
        return bool(item["ids"] != edge.ids)
    return bool(np.abs(np.array(item["probabilities"]) - expected).max() > slack)


def _said(found: Mapping[str, Any], bound: Bound) -> list[str]:
    said = []
    if found["top1_agreement"] < bound.top1_agreement:
        same = round(found["top1_agreement"] * found["n"])
        said.append(f"{same} of {found['n']} answers are the artifact's, {100 * bound.top1_agreement:g} % asked")
    if found["max_probability_difference"] > bound.probability_difference:
        far = f"{found['max_probability_difference']:.2g}"
        said.append(f"a probability is {far} from the artifact's, {bound.probability_difference:g} allowed")
    if found["tokens_equal"] is not None and found["tokens_equal"] < found["n"]:
        said.append(f"tokens of {found['tokens_equal']} of {found['n']} utterances are the reference's")
    return said
