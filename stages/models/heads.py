"""Say what head a checkpoint has, and refuse one that was made for another task than is asked for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from stages.core.errors import InputError, Unsupported
from stages.models.families import find, names, with_head
from stages.models.families.base import Family

# The end of a class's name → what such a model does.
MADE_FOR = {
    "ForSequenceClassification": "a sentence classifier, which labels a text",
    "ForTokenClassification": "a token classifier, which labels every word",
    "ForQuestionAnswering": "a question answering model, which marks a span of a text",
    "ForMultipleChoice": "a multiple-choice model, which scores pairs of texts",
    "ForNextSentencePrediction": "a next-sentence model, which judges pairs of texts",
    "ForMaskedLM": "a masked language model, which guesses hidden words",
    "WithLMHead": "a masked language model, which guesses hidden words",
    "LMHeadModel": "a language model, which continues texts",
    "ForCausalLM": "a language model, which continues texts",
    "ForPreTraining": "a pretrained language model without a classifier",
    "Model": "a bare encoder without a classifier",
}
# The start of a tensor's name → the same, for checkpoints that do not say what they are.
TENSORS = {"qa_outputs.": MADE_FOR["ForQuestionAnswering"], "lm_head.": MADE_FOR["ForMaskedLM"]} | {
    start: MADE_FOR[kind] for name in names() for start, kind in find(name).unused.items()
}
PRETRAINED = ("Model", "ForMaskedLM", "ForPreTraining", "WithLMHead")
"""What a head can be put on: what pretraining leaves, its own head left out."""
REMEDY = "fine-tune it as {classifier} on your labels, and import that"
FINETUNE = "train a head for it on your data: `python -m stages.compose teacher=finetune teacher.path={place} …`"
TRAINED = "teacher=checkpoint takes it as it is; to train another head, give the encoder that it was trained from"


def class_name(family: Family, head: str) -> str:
    """Name the class of transformers that a family's models with a head are of."""
    return f"{CONFIG_MAPPING_NAMES[family.name].removesuffix('Config')}{head}"


def class_with(family: Family, head: str) -> Any:
    """Return the class of transformers that a family's models with a head are of, to make one.

    Raises:
        Unsupported: transformers has none, or it is none of the families that such heads are for.
    """
    name = class_name(family, head)
    if family.name not in with_head(head):
        raise Unsupported(
            f"family '{family.name}' is none that this task takes", expected=f"one of: {', '.join(with_head(head))}"
        )
    if not hasattr(transformers, name):
        raise Unsupported(f"transformers has no '{name}'", expected="a family that has such a head")
    return getattr(transformers, name)


def class_of(config: Any) -> Any:
    """Return the class of transformers that a checkpoint says it is of.

    Raises:
        InputError: it names none of its family.
    """
    names = config.architectures or []
    found = getattr(transformers, names[0], None) if len(names) == 1 else None
    if getattr(found, "config_class", None) is not type(config):
        raise InputError(
            f"config.json has architectures: {names}", expected=f"one class that takes a {type(config).__name__}"
        )
    return found


def check_head(path: Path, config: dict[str, Any], family: Family, head: str) -> None:
    """Refuse what its own `architectures` call another thing than a family's model with a head.

    Args:
        path: config.json, for messages.
        config: what stands in it.
        family: its own.
        head: what the class's name must end with.

    Raises:
        InputError: names the task that the checkpoint was made for.
    """
    classifier = class_name(family, head)
    named = architectures(config)
    if not named:
        if any(config.get(key) == value for key, value in family.ambiguous.items()):
            raise InputError(
                f"'{path}' names no architectures, and without a pooler one of texts and one of words look the same",
                expected=f'"architectures": ["{classifier}"]',
                next_step="say there what it was trained as",
            )
        return
    pretrained = {class_name(family, end) for end in PRETRAINED} if family.decoder is None else set()
    for name in named:
        if name != classifier:
            remedy = FINETUNE.format(place=path.parent) if name in pretrained else REMEDY.format(classifier=classifier)
            raise InputError(
                f"the checkpoint is {_made_for(name)} ('{path}' names '{name}')",
                expected=f"'{classifier}'",
                next_step=remedy,
            )


def check_headless(path: Path, config: dict[str, Any], family: Family) -> None:
    """Refuse what its own `architectures` call anything but a pretrained encoder of a family.

    Args:
        path: config.json, for messages.
        config: what stands in it.
        family: its own.

    Raises:
        InputError: names the task that the checkpoint was made for.
    """
    known = [class_name(family, end) for end in PRETRAINED]
    for name in architectures(config):
        if name not in known:
            raise InputError(
                f"the checkpoint has a trained head already: it is {_made_for(name)} ('{path}' names '{name}')",
                expected=f"a pretrained encoder: '{known[0]}' or '{known[1]}'",
                next_step=TRAINED,
            )


def check_family(path: Path, family: Family, head: str) -> None:
    """Refuse a family whose models cannot have a head.

    Raises:
        InputError: names those that can.
    """
    if family.name not in with_head(head):
        raise InputError(
            f"'{path}' is of family '{family.name}', which this task does not take",
            expected=f"one of: {', '.join(with_head(head))}",
        )


def architectures(config: dict[str, Any]) -> list[str]:
    """Name the classes that a config.json says its weights are of, as PyTorch's are called; none where it says none."""
    named = config.get("architectures") or []
    return [re.sub("^(TF|Flax)", "", str(name)) for name in (named if isinstance(named, list) else [named])]


def _made_for(name: str) -> str:
    return next((task for end, task in MADE_FOR.items() if name.endswith(end)), "of no task known here")
