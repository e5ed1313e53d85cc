"""Make up probe texts, for those whose utterances may not leave the build, not even as token ids in a bundle.

A bundle's golden inputs are the probe split's token ids, and its tokenizer turns them back into text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random

from stages.core.errors import ConfigError
from stages.data.splits import Example, normalise

# A word that occurs in fewer utterances may be a name or a number of somebody's.
COMMON = 5
ATTEMPTS = 100


def invent(train: Sequence[Example], real: Iterable[str], size: int, seed: int) -> list[Example]:
    """Put common words of train in random order, in texts as long as train's.

    Args:
        train: utterances whose words and lengths are borrowed.
        real: texts that must not come out by chance.
        size: texts wanted.
        seed: of the random order.

    Returns:
        Distinct texts without a label.

    Raises:
        ConfigError: train has too few common words for that many distinct texts.
    """
    random = Random(f"{seed}/synthetic")  # noqa: S311
    counts = Counter(word for example in train for word in set(example.text.split()))
    words = sorted(word for word, count in counts.items() if count >= COMMON)
    lengths = [len(example.text.split()) for example in train]
    taken, invented = {normalise(text) for text in real}, []
    for _ in range(ATTEMPTS * size if words else 0):
        text = " ".join(random.choices(words, k=random.choice(lengths)))
        if normalise(text) not in taken:
            taken.add(normalise(text))
            invented.append(Example(text, None))
        if len(invented) == size:
            return invented
    raise ConfigError(
        f"train has only {len(words)} words that occur in {COMMON} utterances: no {size} texts can be made of them",
        next_step="set data.probe: validation, or a smaller data.probe_size",
    )
