"""The honesty bar: what a linear model over words and word pairs reaches, which a transformer has to beat."""

from __future__ import annotations

from collections.abc import Sequence

from stages.core.errors import InputError
from stages.data.splits import Example
from stages.measure.statistics import proportion_interval

METHOD = "TF-IDF over words and word pairs, linear SVM"


def measure_baseline(train: Sequence[Example], test: Sequence[Example], seed: int) -> dict[str, object]:
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
