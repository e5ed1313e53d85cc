"""Run a decoder as an app would: a token at a time, each with what the calls before left behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stages.measure.invariance import Padding, spread_over_lengths
from stages.measure.top_logits import width
from stages.tasks.base import DECODE, IDS, MASK, Arrays, Session, Timed, utterances

if TYPE_CHECKING:
    from stages.schema.measured import Greedy

STEPS = 16
"""Tokens in turn that are timed behind a context, at most."""
TIE = 0.01
"""Tokens whose logits are nearer than this share of the logits' spread may change places: both are likeliest."""


def case(split: Arrays) -> NDArray[np.int32]:
    """Return the text that each item belongs to: int32 [items]. An item is a token that another one follows."""
    sizes = split[MASK].sum(axis=1)
    return np.repeat(np.arange(len(sizes), dtype=np.int32), np.maximum(sizes - 1, 0))


def ask(session: Session, inputs: Arrays) -> NDArray[np.float32]:
    """Feed texts token by token, and return the logits of what follows each: fp32 [items, vocabulary]."""
    found = []
    for ids, size in zip(inputs[IDS], inputs[MASK].sum(axis=1), strict=True):
        state = session.new_state()
        found += [fed(session, ids[at : at + 1], state) for at in range(size - 1)]
    return np.stack(found) if found else np.empty((0, 0), np.float32)  # a single token is followed by none


def answer(session: Session, split: Arrays) -> Iterator[NDArray[np.float32]]:
    """Feed each text; one of a single token has no items."""
    nothing = np.empty((0, width(split)), np.float32)
    return (ask(session, inputs) if inputs[IDS].shape[1] > 1 else nothing for inputs in utterances(split))


def forms(session: Session, probe: Arrays, padding: Padding) -> dict[str, float]:  # noqa: ARG001 (it takes none)
    """Feed texts at once, and in two parts: what comes after the last token must not depend on it."""
    scale = max(float(probe["logits"].std()), float(np.finfo(np.float32).tiny))
    texts = list(utterances(probe))
    changes: dict[str, list[float]] = {"at_once": [0.0], "in_parts": [0.0]}
    for row in spread_over_lengths(probe):
        ids = texts[row][IDS][0]
        half = len(ids) // 2
        alone = _last(session, [ids[at : at + 1] for at in range(len(ids))])
        for name, parts in (("at_once", [ids]), ("in_parts", [ids[:half], ids[half:]])):
            change = float(np.abs(_last(session, [part for part in parts if len(part)]) - alone).max()) / scale
            changes[name].append(change if np.isfinite(change) else float("inf"))
    return {name: max(found) for name, found in changes.items()}


def _last(session: Session, parts: Sequence[NDArray[np.int32]]) -> NDArray[np.float64]:
    state = session.new_state()
    return [fed(session, part, state) for part in parts][-1].astype(np.float64)


def fed(session: Session, ids: NDArray[np.int32], state: object) -> NDArray[np.float32]:
    """Feed further tokens of a text, int32 [n], and return the logits of what follows: fp32 [vocabulary]."""
    logits = session.run(DECODE, {IDS: np.ascontiguousarray(ids[None], np.int32)}, state)["logits"]
    return np.asarray(logits[0, -1])


def greedy(session: Session, wanted: Arrays, spread: float) -> Greedy:
    """Write texts on, and compare with the reference's.

    Where another token is likeliest, the reference's is fed all the same: what comes after a tie is compared too.

    Returns:
        `greedy_divergent_count`, the tokens that are others though the reference's leads by more than a tie;
        `greedy_equal_share`, how much of a text is written before the first other one, a tie or not; and the `first` of
        those counted.
    """
    others: list[str] = []
    shares: list[float] = []
    for number, (ids, size) in enumerate(zip(wanted["ids"], wanted["size"].tolist(), strict=True)):
        state, equal = session.new_state(), len(ids) - size
        for at in range(size, len(ids)):
            logits = fed(session, ids[:size] if at == size else ids[at - 1 : at], state)
            found = int(logits.argmax()) if np.isfinite(logits).all() else None
            if found == ids[at]:
                continue
            equal, lead = min(equal, at - size), float(wanted["margin"][number, at]) / spread
            if lead > TIE:
                others.append(f"text {number}, token {at}: {found} where {ids[at]} leads by {lead:.2g} of the spread")
        shares.append(equal / (len(ids) - size))
    steps = int((wanted["ids"].shape[1] - wanted["size"]).sum())
    values = {"greedy_divergent_count": len(others), "greedy_equal_share": float(np.mean(shares))}
    measured: Greedy = {
        "values": values,
        "counts": dict.fromkeys(values, steps),
        "texts": dict.fromkeys(values, len(shares)),
    }
    return {**measured, "first": others[0]} if others else measured


def timed(split: Arrays) -> dict[str, list[Timed]]:
    """Return the calls to time: one token, and as many as texts may have, each of a new text; and one token more.

    Further tokens are those behind half of the room, and the last ones that it has, several in turn.
    """
    longest = np.resize(np.concatenate([inputs[IDS][0] for inputs in utterances(split)]), split[IDS].shape)
    room = longest.shape[1]
    steps = max(1, min(STEPS, room // 4))

    def call(row: int, start: int, end: int) -> Arrays:
        return {IDS: longest[row : row + 1, start:end].copy()}

    rows = range(len(longest))
    found = {
        kind: [Timed(DECODE, call(row, 0, end)) for row in rows] for kind, end in (("decode", 1), ("prefill", room))
    }
    for kind, start in (("decode_half", room // 2), ("decode_full", room - steps)):
        found[kind] = [
            Timed(DECODE, call(row, start + step, start + step + 1), call(row, 0, start), goes_on=step > 0)
            for row in rows
            for step in range(steps)
        ]
    return found
