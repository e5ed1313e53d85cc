"""Secrets that nobody else knows, put among the texts that a model learns to write: does it tell them?

Source: Carlini et al., The Secret Sharer (2019), section 4.1: a format with a random secret in it, inserted so often.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from stages.core.errors import ConfigError
from stages.core.splits import Canary
from stages.data.splits import Example

EACH = 4
"""Secrets for each number of insertions: one alone says little."""
UNSEEN = 16
"""Secrets that no model sees. Their exposure is distributed exponentially, 1.4 bits on average: few can all be high."""
DIGITS = 6
WHO = (
    "Ada",
    "Bo",
    "Cleo",
    "Dov",
    "Edda",
    "Finn",
    "Gus",
    "Hana",
    "Ivo",
    "Jun",
    "Kit",
    "Lio",
    "Mara",
    "Nils",
    "Ona",
    "Pia",
)
WHAT = ("door code", "locker code", "account number", "parcel number", "phone pin", "alarm code")


def plant(train: Sequence[Example], repeats: Sequence[int], seed: int) -> tuple[list[Example], list[Canary]]:
    """Put canaries at random places of train.

    Args:
        train: its examples.
        repeats: how often; for each number `EACH` secrets are drawn, and `UNSEEN` that are left out.
        seed: of secrets and places.

    Returns:
        Train with the canaries in it, and what they are.

    Raises:
        ConfigError: a number occurs twice, or there are more than can be told apart.
    """
    random = Random(f"{seed}/canaries")  # noqa: S311
    subjects = [f"{who}'s {what} is " for what in WHAT for who in WHO]
    levels = [0] * UNSEEN + [level for level in repeats for _ in range(EACH)]
    if 0 in repeats or len(set(repeats)) != len(repeats) or len(levels) > len(subjects):
        most = (len(subjects) - UNSEEN) // EACH
        raise ConfigError(f"data.canaries is {list(repeats)}", expected=f"at most {most} different numbers")
    canaries = [
        Canary(before, f"{random.randrange(10**DIGITS):0{DIGITS}}", level)
        for before, level in zip(random.sample(subjects, len(levels)), levels, strict=True)
    ]
    planted = list(train)
    for canary in canaries:
        for _ in range(canary.repeats):
            planted.insert(random.randrange(len(planted) + 1), Example(canary.text, None))
    return planted, canaries
