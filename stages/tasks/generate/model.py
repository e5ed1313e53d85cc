"""A causal language model of transformers answers at every token: which one comes next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.splits import UNKNOWN

HEAD = "ForCausalLM"


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
