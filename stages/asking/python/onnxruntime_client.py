"""Ask ONNX Runtime about the ONNX file of a Hugging Face directory, with `tokenizers` before it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.asking.python import harness


def open_client(question: harness.Question) -> harness.Ask:
    """Feed int64 ids at their true length, as every client of such a directory does."""
    import onnxruntime
    from tokenizers import Tokenizer

    session = onnxruntime.InferenceSession(question["file"], providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(Path(question["file"]).parents[1] / "tokenizer.json"))
    tokenizer.enable_truncation(question["max_length"])

    def ask(item: Mapping[str, Any]) -> harness.Answer:
        ids = tokenizer.encode(item["text"]).ids
        row = np.array([ids], np.int64)
        logits = session.run(["logits"], {"input_ids": row, "attention_mask": np.ones_like(row)})[0]
        return harness.labelled(harness.softmax(logits[0]), ids)

    return ask


if __name__ == "__main__":
    harness.main(open_client, "onnxruntime", "tokenizers")
