"""Ask ONNX Runtime with onnxruntime-extensions about the file that has the tokenizer in its graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stages.asking.python import harness


def open_client(question: harness.Question) -> harness.Ask:
    """Text goes in and probabilities come out; what tokens lay between is not shown."""
    import onnxruntime
    from onnxruntime_extensions import get_library_path

    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(get_library_path())
    session = onnxruntime.InferenceSession(question["file"], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def ask(item: Mapping[str, Any]) -> harness.Answer:
        found = session.run(["probabilities"], {name: np.array([item["text"]])})[0][0]
        return harness.labelled(found, None)

    return ask


if __name__ == "__main__":
    harness.main(open_client, "onnxruntime-extensions", "onnxruntime")
