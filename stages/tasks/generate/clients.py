"""The clients of a language model write the beginnings of `golden.json` on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stages.asking.answers import Item
from stages.asking.roster import Client
from stages.core import artifact
from stages.measure.metrics import softmax
from stages.schema.clients import Bound
from stages.targets.base import Session
from stages.tasks.base import IDS, Arrays
from stages.tasks.generate.exercise import fed

CLIENTS = (
    Client("onnxruntime", "onnx", "python", "", "generate_sample_client"),
    Client("onnxruntime-genai", "genai", "python", "genai", "genai_client"),
    Client("litert-lm", "litertlm", "python", "litertlm", "litertlm_client"),
    Client("transformers-js", "hf", "node", "node", "generate_transformers.mjs"),
    Client("transformers-js-web", "hf", "browser", "node", "generate_transformers.mjs"),
    Client("onnxruntime-web", "hf", "browser", "node", "generate_onnxruntime.mjs", reads_text=False),
)


class Written(NamedTuple):
    """What follows a text.

    Attributes:
        ids: without the one that ended it.
        leads: by how much the probability of each leads over the next one's; empty where nobody asked.
        text: the whole, '' where it is not known.
        stops: ids that end one.
        spell: letters that ids add to the text, for clients that show no ids; None where nobody is compared with it.
    """

    ids: list[int]
    leads: list[float]
    text: str
    stops: Sequence[int] = ()
    spell: Callable[[Sequence[int]], str] | None = None


OTHER = -1
"""Stands for what letters hold beyond the tokens that were looked for; no vocabulary has it."""


def asked(places: Mapping[str, Path], bundle: Path, wanted: int | None) -> list[tuple[Item, Written]]:  # noqa: ARG001
    """Return the bundle's own beginnings: whatever a client makes of them, somebody can repeat."""
    limits = artifact.read_json(bundle / "limits.json")
    room, stops = limits["max_length"], limits["generation"]["stop_ids"]
    spelling = _spelling(bundle)
    found = []
    for prompt in artifact.read_json(bundle / "golden.json")["prompts"]:
        told = {name: prompt[name] for name in ("add_special_tokens", "messages")}
        item = Item(prompt["text"], prompt["ids"], asked={**told, "room": room, "stop_ids": stops, "writes": True})
        ids, spell = _without(prompt["continuation"], stops), partial(spelling, prompt["ids"])
        found.append((item, Written(ids, [], prompt["full_text"], stops, spell)))
    return found


def _spelling(bundle: Path) -> Callable[[Sequence[int], Sequence[int]], str]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer/tokenizer.json"))

    def spelled(prompt: Sequence[int], ids: Sequence[int]) -> str:
        whole: str = tokenizer.decode([*prompt, *ids])
        return whole[len(tokenizer.decode([*prompt])) :]

    return spelled


def own(session: Session, inputs: Arrays, item: Item) -> Written:
    """Write a text on to its end or to the end of the room; an edge text not at all."""
    ids, leads, room = list[int](), list[float](), item.asked.get("room", 0)
    if not item.asked.get("writes"):
        return Written(ids, leads, "")
    state, given = session.new_state(), inputs[IDS][0]
    while room > len(item.ids) + len(ids):
        probabilities = softmax(fed(session, given, state))
        best = int(probabilities.argmax())
        if best in item.asked["stop_ids"]:
            break
        ids.append(best)
        leads.append(float(np.diff(np.sort(probabilities)[-2:])[0]))
        given = np.array([best], np.int32)
    return Written(ids, leads, "")


def compare(
    given: Sequence[Mapping[str, Any]], own: Sequence[Written], reference: Sequence[Written]
) -> dict[str, float]:
    """Compare texts token by token.

    Returns:
        `top1_agreement`, the share of texts that are the artifact's to the last token; `max_probability_difference`,
        how far at least a probability must have been off where one first parts from it: half of the lead that the
        artifact's token had; `misspelt`, texts whose tokens are the reference's and whose letters are not.
    """
    pairs = list(zip(given, own, reference, strict=True))
    texts = [_following(item, answer.ids, wanted) for item, answer, wanted in pairs]
    spelled = [item["text"] in (None, wanted.text) for item, _, wanted in pairs]
    known = [_following(item, wanted.ids, wanted) == wanted.ids for item, _, wanted in pairs]
    return {
        "max_probability_difference": max(_parted(text, answer) for text, answer in zip(texts, own, strict=True)),
        "misspelt": sum(same and not right for same, right in zip(known, spelled, strict=True)),
        "n": len(given),
        "top1_agreement": float(np.mean([text == answer.ids for text, answer in zip(texts, own, strict=True)])),
        "top1_agreement_with_reference": float(np.mean(known)),
    }


def _following(item: Mapping[str, Any], looked_for: Sequence[int], wanted: Written) -> list[int]:
    """Return the tokens that a client wrote, without the one that ended a text.

    Where it shows letters alone: as many of `looked_for` as these begin with, and `OTHER` if they go on otherwise.
    """
    if item["following"] is not None:
        return _without(item["following"], wanted.stops)
    assert wanted.spell is not None
    letters = item["continued"]
    for count in range(len(looked_for), -1, -1):
        spelled = wanted.spell(looked_for[:count])
        if letters.startswith(spelled):
            return [*looked_for[:count], *([OTHER] if letters != spelled else [])]
    return [OTHER]


def _parted(text: Sequence[int], own: Written) -> float:
    """Return half of the lead of the first token that is another; 1 where a text ends early or late."""
    pairs = enumerate(zip(text, own.ids, strict=False))
    first = next((at for at, (one, other) in pairs if one != other), None)
    if first is None:
        return float(len(text) != len(own.ids))
    return own.leads[first] / 2


def said(found: Mapping[str, float]) -> str:
    """Say where a text first parts from the artifact's."""
    half = found["max_probability_difference"]
    return "to the last token" if not half else f"parting where a token leads by {2 * half:.1e} at most"


def objections(found: Mapping[str, float], bound: Bound) -> list[str]:
    """Say which texts part where the artifact's token is clearly the likeliest, and which are spelled otherwise."""
    objected = []
    if found["max_probability_difference"] > bound.probability_difference:
        same, lead = round(found["top1_agreement"] * found["n"]), 2 * found["max_probability_difference"]
        allowed = f"{2 * bound.probability_difference:g} allowed"
        where = "ends elsewhere" if lead > 1 else f"parts where the artifact's token leads by {lead:.2g}, {allowed}"
        objected.append(f"{same} of {found['n']} texts are the artifact's, and one {where}")
    if found["misspelt"]:
        objected.append(f"{found['misspelt']:g} of {found['n']} texts are spelled otherwise than their tokens")
    return objected


def otherwise(given: Mapping[str, Any], own: Written, found: Mapping[str, float]) -> bool:  # noqa: ARG001
    """Say no: every client here shows its tokens."""
    return False


def _without(ids: Sequence[int], stops: Sequence[int]) -> list[int]:
    """Leave out what ended a text: some clients show it, some do not."""
    return [*ids[:-1]] if ids and ids[-1] in stops else [*ids]
