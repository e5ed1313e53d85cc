"""What of a bundle is a text classifier's own: labels, answers and words; a module per target has its forms.

text/model.onnx         onnx-cpu, on demand: text in, probabilities out
litert/task.tflite      tflite-nnapi: three inputs, softmax, vocabulary and labels inside
labels.json             names of the classes, the index being the class
labels.txt              the same, a line each
samples/                short programs that load the bundle they lie in
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from stages.core import artifact
from stages.core.names import module_name
from stages.measure.metrics import softmax
from stages.releasing import labels as names
from stages.releasing.core_ml import PACKAGE
from stages.releasing.forms import TargetForms, Words, configured
from stages.releasing.source import Source
from stages.releasing.tokenization import Tokenization, lines
from stages.targets.base import Inputs

WORDS = Words(
    kind="text-classification",
    model="A text classifier with {labels} labels",
    use="One short text in, one of {labels} labels out (`labels.txt`). It answers any text with one of them, texts "
    "that fit none included: where that matters, refuse answers below a probability that you chose on texts of your "
    "own. Not for decisions about people.",
    score="answers {value:.2f} % of {n} test utterances as labelled",
    inputs="input_ids, attention_mask: int32 [1, n], n up to {max_length}",
    outputs="logits: float32 [1, labels], in the order of labels.json",
    caution="It answers one of labels.json to any text; no label says that none fits unless the data has one.",
    truncation={
        "rule": "Tokens beyond max_length are cut from the end of the text, before the special tokens are added: every "
        "input ends in the separator.",
        "transformers_js": "Transformers.js 4.3.1 cuts after adding the special tokens: an input that was too long "
        "ends in the middle of the text. Its answer to such texts may differ from everyone else's.",
    },
)
FROM_DATA = (names.FILE,)
SAMPLES = Path(__file__).with_name("samples")
DIGITS = 6
"""Decimals of a probability: beyond them, one processor's arithmetic is not another's."""

labels = names.read


def of_target(target: str) -> TargetForms:
    """Import the forms of a target's artifacts."""
    return cast(TargetForms, importlib.import_module(f"stages.tasks.classify.forms.{module_name(target)}"))


def answered(source: Source, inputs: Inputs) -> dict[str, Any]:
    """Return the class that a text is given, its label and its probability."""
    (probabilities,) = softmax(source.answer(inputs))
    index = int(probabilities.argmax())
    probability = round(float(probabilities[index]), DIGITS)
    return {"index": index, "label": source.labels[index], "probability": probability}


def misnamed(source: Source, answered: Mapping[str, Any]) -> bool:
    """Whether an answer of `probe.json` has another label than its class."""
    return bool(answered["label"] != source.labels[answered["index"]])


def limits(source: Source) -> dict[str, Any]:  # noqa: ARG001
    """Return nothing: a classifier's files say all."""
    return {}


def tokenizer_settings(source: Tokenization) -> dict[str, Any]:  # noqa: ARG001
    """Return nothing."""
    return {}


def beside(source: Source) -> dict[str, str]:
    """Return the labels a line each, for whoever reads no JSON."""
    return {names.LINES: lines(source.labels)}


def copies(bundle: Path) -> Iterator[tuple[str, str]]:
    """Name files that tell other labels than `labels.json`."""
    return names.differences(bundle, [form.configured for form in configured("classify")])


def differences(bundle: Path, source: Tokenization) -> Iterator[str]:
    """Look for labels and vocabulary inside the files that clients load."""
    from stages.tasks.classify.forms import coreml_metal, task_file, text_form

    labels = artifact.read_json(bundle / names.FILE)
    if (bundle / task_file.FORM).is_file():
        name = str(artifact.read_json(bundle / "limits.json")["variant"])
        yield from task_file.differences(bundle / task_file.FORM, labels, source, name)
    if (bundle / text_form.FORM).is_file():
        yield from text_form.differences(bundle / text_form.FORM, source)
    if (bundle / PACKAGE).is_dir():
        yield from coreml_metal.differences(bundle / PACKAGE, labels)
