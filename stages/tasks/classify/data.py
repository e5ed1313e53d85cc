"""Examples are utterances with a label each; what a transformer has to beat is a linear model over their words."""

from __future__ import annotations

from collections.abc import Sequence

from stages.core.errors import InputError
from stages.data.labels import check_distinct
from stages.data.splits import RAW, Example, Splits, quoted
from stages.measure.statistics import proportion_interval

METHOD = "TF-IDF over words and word pairs, linear SVM"


def read(raw: Splits) -> Splits:
    """Check that a classifier can be trained on train and judged on the rest.

    Args:
        raw: train, test and, where there is one, validation, each with an example or more.

    Raises:
        InputError: a row without a label, fewer than two labels, labels that look alike, or one that train does not
            teach.
    """
    labels = {split: [stratum(example) for example in raw[split]] for split in RAW if split in raw}
    for split, found in labels.items():
        if "" in found:
            raise InputError(f"the {split} split has a row without a label", next_step="set data.label_column")
    known = set(labels["train"])
    check_distinct(label for found in labels.values() for label in found)
    if len(known) < 2:
        raise InputError(f"train has one label only, '{min(known)}'", expected="two or more")
    for split, found in labels.items():
        unknown = sorted({*found} - known)
        if unknown:
            raise InputError(
                f"the {split} split has {len(unknown)} label(s) that train does not have: {quoted(unknown)}",
                expected="labels of train only",
                next_step=f"correct the label column, or drop those utterances from {split}",
            )
    return raw


def stratum(example: Example) -> str:
    """Return an example's label."""
    return example.label or ""


def classes(train: Sequence[Example]) -> list[str]:
    """Return the labels, sorted."""
    return sorted({stratum(example) for example in train})


def honesty_bar(train: Sequence[Example], test: Sequence[Example], seed: int) -> dict[str, object]:
    """Train on train, score on test.

    Args:
        train: examples of two labels or more.
        test: examples of those labels.
        seed: of the solver's shuffling.

    Returns:
        `accuracy` with its 95 % interval, `n`, and what the method is.

    Raises:
        InputError: train has no word of two letters or more.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LinearSVC(random_state=seed))
    try:
        model.fit([example.text for example in train], [example.label for example in train])
    except ValueError as error:
        if "empty vocabulary" not in str(error):
            raise
        raise InputError("train has no word of two letters or more", expected="utterances in words") from error
    predicted = model.predict([example.text for example in test])
    right = sum(bool(label == example.label) for label, example in zip(predicted, test, strict=True))
    return {
        "accuracy": right / len(test),
        "accuracy_interval": proportion_interval(right, len(test)),
        "method": METHOD,
        "n": len(test),
    }
