"""A causal language model of transformers answers at every token: which one comes next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.splits import UNKNOWN, spread
from stages.tasks.generate import PROMPTS, QUESTION

HEAD = "ForCausalLM"
CONTINUES = True
STARTS, START = 2, 8
"""Texts of the test split that are begun with as well, and tokens of each; they stay in the build."""


def wanted(
    tokenizer: Any,  # noqa: ARG001 (the text is encoded already)
    texts: Sequence[str],  # noqa: ARG001
    labels: Sequence[str | None],  # noqa: ARG001
    encoded: Any,
    classes: Sequence[str],  # noqa: ARG001
) -> NDArray[np.int64]:
    """Return the token that follows each token: int64 [n, max_length], -1 behind the last one."""
    following = np.where(encoded.attention_mask[:, 1:] == 1, encoded.input_ids[:, 1:], UNKNOWN)
    return np.pad(following.astype(np.int64), ((0, 0), (0, 1)), constant_values=UNKNOWN)


def items(values: Any, attention_mask: Any) -> Any:
    """Pick the tokens that another one follows, text by text: [batch, length, …] → [items, …]."""
    return values[:, :-1][attention_mask[:, 1:] == 1]


def greedy(model: Any, tokenizer: Any, texts: Sequence[str], room: int) -> Mapping[str, NDArray[Any]]:
    """Write texts on with the likeliest token each time, whatever token would end them, until there is no more room.

    Returns:
        `ids` int32 [texts, room]; `size` int32 [texts], how many of them are given; `margin` float32 [texts, room], by
        how much the logit of each token leads over the next one, 0 of those given; `prompt` str [texts], the text that
        the given ones come from, and `shown` bool [texts], whether a bundle may hold it.
    """
    begun = [(prompt, ids, True) for prompt, ids in _prompts(model, tokenizer) if 0 < len(ids) <= room // 2]
    for index in spread(len(texts), STARTS):
        ids = tokenizer(texts[index]).input_ids
        begun.append(("", ids[: max(1, min(START, len(ids) - 1, room // 2))], False))
    written = [_continued(model, ids, room) for _, ids, _ in begun]
    return {
        "ids": np.array([ids for ids, _ in written], np.int32),
        "margin": np.array([margins for _, margins in written], np.float32),
        "prompt": np.array([prompt for prompt, _, _ in begun]),
        "shown": np.array([shown for _, _, shown in begun]),
        "size": np.array([len(ids) for _, ids, _ in begun], np.int32),
    }


def _prompts(model: Any, tokenizer: Any) -> Iterator[tuple[str, list[int]]]:
    """Yield what a text begins with where nothing stands in it, our beginnings, and a question in the chat template."""
    first = tokenizer.convert_ids_to_tokens(model.config.bos_token_id) if model.config.bos_token_id is not None else ""
    empty = next((text for text in ("", first or "") if len(tokenizer(text).input_ids) == 1), None)
    for text in (*(() if empty is None else (empty,)), *PROMPTS):
        yield text, tokenizer(text).input_ids
    if tokenizer.chat_template:
        text = asked(tokenizer)
        yield text, tokenizer(text, add_special_tokens=False).input_ids


def asked(tokenizer: Any) -> str:
    """Return a question as the tokenizer's chat template spells it."""
    turns = [{"role": "user", "content": QUESTION}]
    return str(tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))


def _continued(model: Any, given: Sequence[int], room: int) -> tuple[list[int], list[float]]:
    import torch

    ids, margins, cache = list(given), [0.0] * len(given), None
    with torch.inference_mode():
        while len(ids) < room:
            fed = torch.tensor([ids if cache is None else ids[-1:]])
            found = model(input_ids=fed, past_key_values=cache, use_cache=True)
            cache, best = found.past_key_values, found.logits[0, -1].float().topk(2)
            ids.append(int(best.indices[0]))
            margins.append(float(best.values[0] - best.values[1]))
    return ids, margins
