"""A causal language model of transformers answers at every token: which one comes next."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import takewhile
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.splits import UNKNOWN, Canary, spread
from stages.measure.statistics import mean_interval
from stages.tasks.generate import PROMPTS, QUESTION

HEAD = "ForCausalLM"
CONTINUES = True
STARTS, START = 2, 8
"""Texts of the test split that are begun with as well, and tokens of each; they stay in the build."""
CANDIDATES = 1024
"""Secrets ranked, the true one included: exposure is at most 10 bits, and 1.4 on average of one never seen."""
BATCH = 128


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


def beside_bar(model: Any, tokenizer: Any, texts: Sequence[str], max_length: int) -> dict[str, Any]:
    """Measure what a byte of whole texts costs, however they are cut into tokens, and longer than `max_length` or not.

    A token is told by up to `max_length` tokens before it, half as many where a window begins anew, and the first one,
    where the tokenizer puts none before it, as one of all. Special tokens are no text, and cost nothing. A tokenizer
    that knows not every character leaves out what a text costs: nothing is returned then.
    """
    costs, sizes = [], []
    for text in texts:
        ids = tokenizer(text).input_ids
        if tokenizer.unk_token_id in ids:
            return {}
        costs.append(sum(_bits(model, ids, {*tokenizer.all_special_ids}, max_length)))
        sizes.append(len(text.encode()))
    case, spread_out = np.repeat(np.arange(len(sizes)), sizes), np.repeat(np.divide(costs, sizes), sizes)
    return {
        "bits_per_byte": sum(costs) / sum(sizes),
        "bits_per_byte_interval": list(mean_interval(spread_out, case)),
    }


def _bits(model: Any, ids: Sequence[int], special: Container[int], max_length: int) -> Iterator[float]:
    """Yield what each token of a text costs."""
    import torch

    if ids and ids[0] not in special:
        yield math.log2(model.config.vocab_size)
    told = 1
    while told < len(ids):
        start = 0 if told == 1 else told - max_length // 2
        window = ids[start : start + max_length]
        with torch.inference_mode():
            given = torch.log_softmax(model(input_ids=torch.tensor([window])).logits[0, :-1].double(), dim=-1)
        for at in range(told - start, len(window)):
            if window[at] not in special:
                yield -float(given[at - 1, window[at]]) / math.log(2)
        told = start + len(window)


def exposure(model: Any, tokenizer: Any, canaries: Sequence[Canary]) -> dict[str, Any]:
    """Rank each secret among others that were drawn as it was.

    Source: Carlini et al., The Secret Sharer (2019), section 4.2: exposure is log2 of the number of possible secrets
    less log2 of the rank that the true one has among them by perplexity; here among a sample of them (section 4.3).

    Args:
        model: a checkpoint in eval mode.
        tokenizer: its tokenizer.
        canaries: of its training text.

    Returns:
        `most`: bits of a secret told outright; `bits`: for each number of insertions, ascending, `repeats` and the
        exposure of each of its secrets.
    """
    bits: dict[int, list[float]] = {}
    for before, secret, repeats in canaries:
        random, others = Random(f"{before}/{secret}"), {secret}  # noqa: S311
        while len(others) < CANDIDATES:
            others.add(f"{random.randrange(10 ** len(secret)):0{len(secret)}}")
        costs = _costs(model, tokenizer, [before + candidate for candidate in (secret, *sorted(others - {secret}))])
        # A tie counts against the secret's being known.
        rank = int((costs <= costs[0]).sum())
        bits.setdefault(repeats, []).append(math.log2(CANDIDATES / rank))
    rows = [{"bits": found, "repeats": repeats} for repeats, found in sorted(bits.items())]
    return {"bits": rows, "most": math.log2(CANDIDATES)}


def _costs(model: Any, tokenizer: Any, texts: Sequence[str]) -> NDArray[np.float64]:
    """Return what each text costs in nats beyond the tokens that all begin with: float64 [texts]."""
    import torch

    encoded = [tokenizer(text).input_ids for text in texts]
    room = getattr(model.config, "max_position_embeddings", None) or max(map(len, encoded))
    # A small room holds the end of a text alone, which is where the secret stands.
    beyond = max(0, max(map(len, encoded)) - room)
    encoded = [ids[beyond:] for ids in encoded]
    alike = (len({*column}) == 1 for column in zip(*encoded, strict=False))
    # The last token that all share tells what follows it, so it is read with the rest.
    shared = max(sum(takewhile(bool, alike)) - 1, 0)
    costs = np.zeros(len(texts))
    with torch.inference_mode():
        for start in range(0, len(texts), BATCH):
            rest = [torch.tensor(ids[shared:]) for ids in encoded[start : start + BATCH]]
            fed = torch.nn.utils.rnn.pad_sequence(rest, batch_first=True)
            cache = None
            if shared:
                cache = model(input_ids=torch.tensor([encoded[0][:shared]]), use_cache=True).past_key_values
                cache.batch_repeat_interleave(len(rest))
            # No mask: what is padded stands behind, where causal attention does not look.
            given = model(input_ids=fed, past_key_values=cache, use_cache=True).logits.double().log_softmax(-1)
            told = given[:, :-1].gather(2, fed[:, 1:, None])[..., 0]
            sizes = torch.tensor([len(ids) - 1 for ids in rest])
            told[torch.arange(told.shape[1])[None] >= sizes[:, None]] = 0
            costs[start : start + BATCH] = -told.sum(1).numpy()
    return costs


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
    from stages.models.chat import spell

    return spell(tokenizer, QUESTION)


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
