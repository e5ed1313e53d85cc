"""A bundle holds the artifact, and the token that follows each of the probe's; no form for clients is made yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.releasing.forms import Words, alone
from stages.tasks.base import IDS

if TYPE_CHECKING:
    from stages.releasing.source import Source
    from stages.releasing.tokenization import Tokenization
    from stages.targets.base import Inputs

WORDS = Words(
    kind="text-generation",
    model="A causal language model",
    use="A text in, the token that follows it out; fed back, the text goes on, up to {max_length} tokens in all.",
    score="finds {value:.3g} tokens as likely as the one that follows, over {n} tokens",
    inputs="input_ids int64 [1, n], attention_mask int64 [1, all tokens so far], past_key_values.L.key and .value",
    outputs="logits: float32 [1, 1, vocabulary] of what follows the last token; present.L.key and .value",
    caution="It continues any text, with words that are likely and need not be true.",
    truncation={"rule": "A text and its continuation have {max_length} tokens at most; begin anew with the end of it."},
)
FROM_DATA: tuple[str, ...] = ()
SAMPLES = Path(__file__).parent

of_target = alone


def labels(places: Mapping[str, Path]) -> list[str]:  # noqa: ARG001 (the classes are the tokenizer's)
    """Return no names: the classes are tokens."""
    return []


def answered(source: Source, inputs: Inputs) -> dict[str, Any]:
    """Return the token that is likeliest to follow each token of a text but the last, none after a single one."""
    several = inputs[IDS].shape[1] > 1
    return {"following": source.answer(inputs).argmax(axis=-1).tolist() if several else []}


def misnamed(source: Source, answered: Mapping[str, Any]) -> bool:  # noqa: ARG001 (it has no names)
    """Return that none is."""
    return False


def beside(source: Source) -> dict[str, str]:  # noqa: ARG001
    """Return no further files."""
    return {}


def copies(bundle: Path) -> Iterator[tuple[str, str]]:  # noqa: ARG001
    """Name nothing: no file repeats a name."""
    return iter(())


def differences(bundle: Path, source: Tokenization) -> Iterator[str]:  # noqa: ARG001
    """Say nothing: no form has a copy."""
    return iter(())
