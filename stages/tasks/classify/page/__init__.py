"""Released ONNX variants, their tokenizer and onnxruntime-web in one page that classifies what is typed into it.

The page opens from a file as well as from a server. Everything in it is compressed text, and its policy lets no request
leave it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stages.core import artifact

GOLDEN = 16
"""Golden inputs the page checks every variant with before it shows it."""


def facts(bundle: Path) -> dict[str, Any]:
    """Return its accuracy and its answers to golden inputs: see `reporting.demo.TaskPage`."""
    verdict = artifact.read_json(bundle / "verdict.json")
    golden = artifact.read_arrays(bundle / "golden.npz")
    answers = golden["artifact_logits"][:GOLDEN].argmax(axis=-1)
    masks = golden["attention_mask"][:GOLDEN] == 1
    rows = [ids[mask].tolist() for ids, mask in zip(golden["input_ids"][:GOLDEN], masks, strict=True)]
    return {
        "accuracy": verdict["metrics"]["accuracy"],
        "golden": [{"answer": int(answer), "ids": ids} for ids, answer in zip(rows, answers, strict=True)],
        "interval": [float(end) for end in np.asarray(verdict["intervals"]["accuracy"])],
        "max_length": artifact.read_json(bundle / "signature.json")["sequence_lengths"][-1],
        "n": int(verdict["metrics"]["n"]),
    }


def content(bundle: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the labels, and their number."""
    labels = artifact.read_json(bundle / "labels.json")
    return {"labels": labels}, {"labels": len(labels)}
