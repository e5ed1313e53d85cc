"""Compare a client's answers with the artifact's own: the gate judged those, so a client may only repeat them.

A client that shows the tokens it made is held to them. Of one that does not, an edge text counts as tokenised otherwise
where its answer is further from the artifact's answer to the reference's tokens than its utterances explain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stages.asking.answers import Answer, Given, Item, TaskClients, of_task
from stages.asking.question import Answers, Question
from stages.schema.clients import Bound


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
    task = of_task(asked.task)
    measured = task.compare(given, expected.utterances, asked.reference)
    edges = answer["items"][len(asked.utterances) :] if reads_text else []
    found = {
        **measured,
        **answer.get("told", {}),
        "edges": _edges(asked, expected, edges, measured) if reads_text else None,
        "latency_p50_ms": float(np.median([item["ms"] for item in given])),
        "load_time_ms": answer["load_ms"],
        "tokens_equal": _tokens(asked.utterances, given) if reads_text else None,
    }
    said = [*task.objections(found, bound), *_unlike(found)]
    return {**entry, **found, "reason": "; ".join(said), "verdict": "fail" if said else "pass"}


def _tokens(utterances: Sequence[Item], given: Sequence[Given]) -> int | None:
    """Count the utterances whose tokens are the reference's; None where the client shows none."""
    if any(item["ids"] is None for item in given):
        return None
    return sum(bool(item["ids"] == asked.ids) for item, asked in zip(given, utterances, strict=True))


def _edges(asked: Question, expected: Answers, given: Sequence[Given], measured: Mapping[str, float]) -> dict[str, Any]:
    """Name the edge texts that the client tokenises otherwise than the reference."""
    different = [
        edge.name
        for edge, item, own in zip(asked.edges, given, expected.edges, strict=True)
        if _otherwise(of_task(asked.task), edge, item, own, measured)
    ]
    shown = all(item.get("ids") is not None for item in given if "error" not in item)
    return {"different": different, "n": len(asked.edges), "shown": shown}


def _otherwise(task: TaskClients, edge: Item, item: Given, own: Answer, measured: Mapping[str, float]) -> bool:
    if "error" in item:
        return True
    if item["ids"] is not None:
        return bool(item["ids"] != edge.ids)
    return task.otherwise(item, own, measured)


def _unlike(found: Mapping[str, Any]) -> list[str]:
    if found["tokens_equal"] is None or found["tokens_equal"] == found["n"]:
        return []
    return [f"tokens of {found['tokens_equal']} of {found['n']} utterances are the reference's"]
