"""Say what a checkpoint was made for, and refuse all but sentence classifiers by the name of their task."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from stages.core.errors import InputError
from stages.models.families import find, names
from stages.models.families.base import Family

# The end of a class's name → what such a model does.
TASKS = {
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
HEADS = {"qa_outputs.": TASKS["ForQuestionAnswering"], "lm_head.": TASKS["ForMaskedLM"]} | {
    start: TASKS[kind] for name in names() for start, kind in find(name).unused.items()
}
REMEDY = "fine-tune it as {classifier} on your labels, and import that"


def check_task(path: Path, config: dict[str, Any], family: Family) -> None:
    """Refuse what its own `architectures` call another thing than a sentence classifier.

    Args:
        path: config.json, for messages.
        config: what stands in it.
        family: its own.

    Raises:
        InputError: names the task that the checkpoint was made for.
    """
    classifier: str = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES[family.name]
    named = config.get("architectures")
    if named is None or named == []:
        if any(config.get(key) == value for key, value in family.ambiguous.items()):
            raise InputError(
                f"'{path}' names no architectures, and without a pooler a token classifier looks the same",
                expected=f'"architectures": ["{classifier}"]',
                next_step="say there what it was trained as",
            )
        return
    names = named if isinstance(named, list) else [named]
    for name in names:
        if re.sub("^(TF|Flax)", "", str(name)) != classifier:
            what = next((task for end, task in TASKS.items() if str(name).endswith(end)), "not a sentence classifier")
            raise InputError(
                f"the checkpoint is {what} ('{path}' names '{name}')",
                expected=f"'{classifier}'",
                next_step=REMEDY.format(classifier=classifier),
            )
