"""The default data set: assistant utterances from a seeded grammar, no download.

The sentences, and which of them are held out for test, stand in grammar.yaml; this module only fills them in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from stages.core.errors import ConfigError
from stages.core.params import parse_yaml
from stages.data.splits import RAW, Example, Source, Splits, normalise
from stages.schema.data import Embedded

GRAMMAR = Path(__file__).with_name("grammar.yaml")
ATTEMPTS = 2000
LONGEST = 20  # words
SHORTEST_MISTYPED = 5  # a typo in "on", "not" or "from" could make the right label unknowable

_SLOT = re.compile(r"\{(\w+)\}")
_OPTIONAL = re.compile(r"\[([^][]*)\]")
_CHOICE = re.compile(r"\(([^()]*)\)")


@dataclass(frozen=True)
class Grammar:
    """Templates by label and split, what their slots may say, and what may stand around any of them."""

    frame: str
    slots: dict[str, list[str]]
    templates: dict[str, dict[str, list[str]]]
    weights: dict[str, int]


@cache
def read_grammar(path: Path = GRAMMAR) -> Grammar:
    """Read the grammar; each pair becomes two labels, the second with {a} and {b} exchanged."""
    tree: dict[str, Any] = parse_yaml(path.read_text(encoding="utf-8"))
    templates = {label: {split: intent[split] for split in RAW} for label, intent in tree["intents"].items()}
    weights = {label: intent.get("weight", 1) for label, intent in tree["intents"].items()}
    for pair in tree["pairs"]:
        roles = (pair["a"], pair["b"]), (pair["b"], pair["a"])
        for label, (a, b) in zip(pair["labels"], roles, strict=True):
            templates[label] = {
                split: [line.replace("{a}", f"{{{a}}}").replace("{b}", f"{{{b}}}") for line in pair[split]]
                for split in RAW
            }
            weights[label] = pair.get("weight", 1)
    return Grammar(frame=tree["frame"], slots=tree["slots"], templates=dict(sorted(templates.items())), weights=weights)


def load(data: Embedded) -> Source:
    """Generate train, validation and test.

    No text occurs twice, and a split uses its own templates only. Validation and test are balanced over labels to
    within one example; train follows the grammar's weights.

    Raises:
        ConfigError: the grammar has fewer distinct utterances for a label than the sizes ask for.
    """
    grammar, used = read_grammar(), set[str]()
    sizes = {"test": data.test_size, "validation": data.validation_size, "train": data.train_size}
    splits: Splits = {}
    for split, size in sizes.items():
        # A string seed is hashed with SHA-512, not with PYTHONHASHSEED; one per split, so that resizing one
        # split leaves the sentences of the others alone.
        random = Random(f"{data.seed}/{split}")  # noqa: S311 (reproducible, not secret)
        splits[split] = _generate(grammar, split, size, data.typo_rate, random, used)
    return Source(splits={split: splits[split] for split in RAW}, files={GRAMMAR.name: GRAMMAR})


def expand(template: str, slots: dict[str, list[str]], random: Random) -> str:
    """Fill in a template: slots first (a slot may hold choices), then choices, innermost first."""
    text = template
    while match := _SLOT.search(text):
        text = text[: match.start()] + random.choice(slots[match[1]]) + text[match.end() :]
    while match := _OPTIONAL.search(text):
        text = f"{text[: match.start()]}({match[1]}|){text[match.end() :]}"
    while match := _CHOICE.search(text):
        text = text[: match.start()] + random.choice(match[1].split("|")) + text[match.end() :]
    return " ".join(text.split())


def mistype(text: str, random: Random) -> str:
    """Drop, double or exchange letters inside one longer word; the first letter stays, as in real typing."""
    words = text.split()
    longer = [index for index, word in enumerate(words) if len(word) >= SHORTEST_MISTYPED]
    if not longer:
        return text
    index = random.choice(longer)
    word = words[index]
    at = random.randrange(1, len(word) - 1)
    words[index] = random.choice(
        (
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        )
    )
    return " ".join(words)


def _generate(
    grammar: Grammar, split: str, size: int, typo_rate: float, random: Random, used: set[str]
) -> list[Example]:
    repeats = grammar.weights if split == "train" else dict.fromkeys(grammar.weights, 1)
    labels = [label for label in grammar.templates for _ in range(repeats[label])]
    examples = []
    for index in range(size):
        label = labels[index % len(labels)]
        examples.append(Example(_new_text(grammar, label, split, typo_rate, random, used), label))
    random.shuffle(examples)
    return examples


def _new_text(grammar: Grammar, label: str, split: str, typo_rate: float, random: Random, used: set[str]) -> str:
    for _ in range(ATTEMPTS):
        template = random.choice(grammar.templates[label][split])
        text = expand(grammar.frame.replace("{template}", template), grammar.slots, random)
        if random.random() < typo_rate:
            text = mistype(text, random)
        if len(text.split()) <= LONGEST and normalise(text) not in used:
            used.add(normalise(text))
            return text
    raise ConfigError(
        f"the embedded grammar has too few {split} utterances of '{label}'", next_step=f"lower data.{split}_size"
    )
