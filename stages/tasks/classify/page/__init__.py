"""Released ONNX variants, their tokenizer and onnxruntime-web in one page that classifies what is typed into it.

The page opens from a file as well as from a server. Everything in it is compressed text, and its policy lets no request
leave it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.core import artifact
from stages.reporting.demo import MODULES as MODULES
from stages.reporting.demo import NEEDED as NEEDED
from stages.reporting.demo import Shown, graphs, written

SOURCES = Path(__file__).parent
GOLDEN = 16
"""Golden inputs the page checks every variant with before it shows it."""


def find(release: Path) -> list[Shown]:
    """Return the bundles that the page can run, in the order of their names."""
    return [_shown(path) for path in graphs(release)]


def render(shown: Sequence[Shown], modules: Path) -> str:
    """Return the page as HTML; the same bundles and modules give the same bytes.

    Args:
        shown: at least one variant.
        modules: `node_modules`.
    """
    first = shown[0].model.parents[1]
    data = {
        "config": artifact.read_json(first / "tokenizer_config.json"),
        "labels": artifact.read_json(first.parent / "labels.json"),
        "tokenizer": artifact.read_json(first / "tokenizer.json"),
    }
    return written(SOURCES, shown, modules, data, labels=len(data["labels"]))


def _shown(model: Path) -> Shown:
    bundle = model.parents[2]
    verdict = artifact.read_json(bundle / "verdict.json")
    golden = artifact.read_arrays(bundle / "golden.npz")
    answers = golden["artifact_logits"][:GOLDEN].argmax(axis=-1)
    masks = golden["attention_mask"][:GOLDEN] == 1
    rows = [ids[mask].tolist() for ids, mask in zip(golden["input_ids"][:GOLDEN], masks, strict=True)]
    facts = {
        "accuracy": verdict["metrics"]["accuracy"],
        "golden": [{"answer": int(answer), "ids": ids} for ids, answer in zip(rows, answers, strict=True)],
        "interval": [float(end) for end in np.asarray(verdict["intervals"]["accuracy"])],
        "key": bundle.name,
        "max_length": artifact.read_json(bundle / "signature.json")["sequence_lengths"][-1],
        "n": int(verdict["metrics"]["n"]),
        "size_bytes": model.stat().st_size,
    }
    return Shown(bundle.name, model, facts)
