"""Ask Optimum's ORTModelForSequenceClassification, with the transformers release that most apps still have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.asking.python import harness


def open_client(question: harness.Question) -> harness.Ask:
    """Open the directory by its own configuration, as the documentation shows it."""
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer

    file = Path(question["file"])
    directory = file.parents[1]
    model = ORTModelForSequenceClassification.from_pretrained(
        directory, subfolder=file.parent.name, file_name=file.name, local_files_only=True
    )
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    order = [model.config.label2id[label] for label in question["labels"]]

    def ask(item: Mapping[str, Any]) -> harness.Answer:
        encoded = tokenizer(item["text"], return_tensors="pt", truncation=True, max_length=question["max_length"])
        logits = model(**encoded).logits[0].numpy()
        return harness.labelled(harness.softmax(logits)[order], encoded["input_ids"][0].tolist())

    return ask


if __name__ == "__main__":
    harness.main(open_client, "optimum", "optimum-onnx", "transformers")
