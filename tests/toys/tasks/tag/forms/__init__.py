"""A bundle holds the artifact, its labels, and a tag for each token of the probe; no client is known."""

from pathlib import Path

from stages.releasing import labels as names
from stages.releasing.forms import Words, alone
from stages.releasing.tokenization import lines

WORDS = Words(
    kind="token-classification",
    model="A token classifier with {labels} tags",
    use="One short text in, one of {labels} tags for each token out.",
    score="tags {value:.2f} % of {n} words rightly",
    inputs="input_ids, attention_mask: int32 [1, n], n up to {max_length}",
    outputs="logits: float32 [1, n, labels], in the order of labels.json",
    caution="Every token has a tag, those of no word as well.",
    truncation={"rule": "Tokens beyond max_length are cut from the end and have no tag."},
)
FROM_DATA = (names.FILE,)
SAMPLES = Path(__file__).parent

labels, of_target = names.read, alone


def answered(source, inputs):
    """Return the class and the tag of each token."""
    found = source.answer(inputs).argmax(axis=-1).tolist()
    return {"indices": found, "labels": [source.labels[index] for index in found]}


def misnamed(source, answered):
    """Whether a tag is not that of its class."""
    return answered["labels"] != [source.labels[index] for index in answered["indices"]]


def limits(source):
    """Say no more."""
    return {}


def tokenizer_settings(source):
    """Say no more."""
    return {}


def beside(source):
    """Return the labels a line each."""
    return {names.LINES: lines(source.labels)}


def copies(bundle):
    """Name files that tell other labels than `labels.json`."""
    return names.differences(bundle, [])


def differences(bundle, source):
    """Nothing is copied into a form."""
    return iter(())
