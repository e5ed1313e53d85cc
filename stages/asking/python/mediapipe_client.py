"""Ask MediaPipe's TextClassifier about the task file: the same file that Android, iOS and web take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.asking.python import harness


def open_client(question: harness.Question) -> harness.Ask:
    """Text goes in and scores come out by label; what tokens lay between is not shown."""
    from mediapipe.tasks.python import BaseOptions, text

    base = BaseOptions(model_asset_path=question["file"])
    options = text.TextClassifierOptions(base_options=base, max_results=len(question["labels"]))
    classifier = text.TextClassifier.create_from_options(options)

    def ask(item: Mapping[str, Any]) -> harness.Answer:
        categories = classifier.classify(item["text"]).classifications[0].categories
        scores = {category.category_name: category.score for category in categories}
        return harness.labelled((scores[label] for label in question["labels"]), None)

    return ask


if __name__ == "__main__":
    harness.main(open_client, "mediapipe")
