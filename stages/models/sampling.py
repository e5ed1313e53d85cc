"""Let a language model write texts by chance, as often as it finds each likely."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from tqdm import tqdm

from stages.core.errors import InputError
from stages.models.training import reproducible

AT_ONCE = 64
"""Texts that are written side by side."""


def write(model: Any, tokenizer: Any, count: int, length: int, temperature: float, seed: int) -> list[str]:
    """Write texts from what every text begins with: ancestral sampling, the same for the same arguments.

    Args:
        model: a causal language model of transformers in eval mode.
        tokenizer: its tokenizer.
        count: texts.
        length: tokens of each at most, the first one included.
        temperature: divides the logits; below 1 what is likely becomes likelier.
        seed: of all draws.

    Returns:
        The texts without their special tokens; one may be empty, or end within a sentence.

    Raises:
        InputError: no token begins a text.
    """
    first = [*tokenizer("").input_ids[:1]] or [token for token in [model.config.bos_token_id] if token is not None]
    if not first:
        raise InputError(
            f"a '{model.config.model_type}' without a token that begins a text has nothing to continue",
            expected="bos_token_id in config.json, or a tokenizer that puts one before a text",
        )
    ends = _ends(model.config.eos_token_id)
    texts: list[str] = []
    with reproducible(seed), torch.inference_mode(), tqdm(total=count, desc="write", unit="text") as bar:
        for start in range(0, count, AT_ONCE):
            for ids in _written(model, first[0], min(AT_ONCE, count - start), length, temperature, ends):
                texts.append(tokenizer.decode(ids, skip_special_tokens=True).strip())
                bar.update()
    return texts


def _written(
    model: Any, first: int, count: int, length: int, temperature: float, ends: set[int]
) -> Iterator[list[int]]:
    """Yield the tokens of `count` texts, up to what ends each."""
    drawn, cache = [torch.full((count, 1), first)], None
    for _ in range(length - 1):
        found = model(input_ids=drawn[-1], past_key_values=cache, use_cache=True)
        cache, logits = found.past_key_values, found.logits[:, -1].float()
        drawn.append(torch.multinomial((logits / temperature).softmax(dim=-1), 1))
    for row in torch.cat(drawn, dim=1).tolist():
        yield row[: next((at for at, token in enumerate(row) if at and token in ends), length)]


def _ends(value: int | list[int] | None) -> set[int]:
    if value is None:
        return set()
    return set(value) if isinstance(value, list) else {value}
