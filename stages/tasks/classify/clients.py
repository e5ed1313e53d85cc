"""The clients of a text classifier answer with the probability of every label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.asking.answers import Item
from stages.asking.roster import Client
from stages.core import artifact, splits
from stages.measure.metrics import softmax
from stages.schema.clients import Bound
from stages.targets.base import Session
from stages.tasks.base import IDS, MASK, Arrays
from stages.tasks.classify.exercise import ask

_MAC = "needs macOS or iOS; this host has neither, and no program here was tried on one"
_PHONE = "needs a phone; MediaPipe's Python and web clients run the same file"

CLIENTS = (
    Client("onnxruntime", "hf", "python", "", "onnxruntime_client"),
    Client("optimum", "hf", "python", "optimum", "optimum_client"),
    Client("transformers-js", "hf", "node", "node", "transformers.mjs"),
    Client("transformers-js-web", "hf", "browser", "node", "transformers.mjs"),
    Client("onnxruntime-web", "hf", "browser", "node", "onnxruntime.mjs", reads_text=False),
    Client("onnxruntime-extensions", "text", "python", "optimum", "extensions_client"),
    Client("litert", "litert", "python", "", "litert_client"),
    Client("tflite-runtime-2.14", "litert", "python", "tflite", "tflite_client", reads_text=False),
    Client("litert-js", "litert", "browser", "node", "litert.mjs", reads_text=False),
    Client("tflite-micro", "litert", "python", "micro", "micro_client", reads_text=False),
    Client("mediapipe", "task", "python", "mediapipe", "mediapipe_client"),
    Client("mediapipe-web", "task", "browser", "node", "mediapipe.mjs"),
    Client("mediapipe-android", "task", "absent", absent=_PHONE),
    Client("core-ml", "mlpackage", "absent", absent=_MAC),
)
ROUNDING = 1e-4
"""Probabilities this near are equal whatever computed them."""

Probabilities = NDArray[np.float64]


def asked(places: Mapping[str, Path], bundle: Path, wanted: int | None) -> list[tuple[Item, Probabilities]]:  # noqa: ARG001
    """Return utterances of the test split, evenly spread."""
    texts = splits.read_split(places["data"], "test").texts
    test = artifact.read_arrays(places["reference"] / "test.npz")
    return [
        (Item(texts[row], test[IDS][row][test[MASK][row] == 1].tolist()), softmax(test["logits"][row]))
        for row in splits.spread(len(texts), wanted or len(texts))
    ]


def own(session: Session, inputs: Arrays, item: Item) -> Probabilities:  # noqa: ARG001 (the ids say it all)
    """Return what the artifact answers to one text: [labels]."""
    found: Probabilities = softmax(ask(session, inputs))[0]
    return found


def compare(
    given: Sequence[Mapping[str, Any]], own: Sequence[Probabilities], reference: Sequence[Probabilities]
) -> dict[str, float]:
    """Compare probabilities; one that is no number is as far as can be."""
    probabilities, expected = np.array([item["probabilities"] for item in given]), np.array(own)
    if not np.isfinite(probabilities).all():
        probabilities = np.where(np.isfinite(probabilities), probabilities, -1.0)
    return {
        "max_probability_difference": float(np.abs(probabilities - expected).max()),
        "n": len(given),
        "top1_agreement": _agreement(probabilities, expected),
        "top1_agreement_with_reference": _agreement(probabilities, np.array(reference)),
    }


def _agreement(first: Probabilities, second: Probabilities) -> float:
    return float((first.argmax(axis=-1) == second.argmax(axis=-1)).mean())


def said(found: Mapping[str, float]) -> str:
    """Say how far a probability is off at most."""
    return f"probabilities within {found['max_probability_difference']:.1e}"


def objections(found: Mapping[str, float], bound: Bound) -> list[str]:
    """Say which answers are others, and how far a probability is off."""
    said = []
    if found["top1_agreement"] < bound.top1_agreement:
        same = round(found["top1_agreement"] * found["n"])
        said.append(f"{same} of {found['n']} answers are the artifact's, {100 * bound.top1_agreement:g} % asked")
    if found["max_probability_difference"] > bound.probability_difference:
        far = f"{found['max_probability_difference']:.2g}"
        said.append(f"a probability is {far} from the artifact's, {bound.probability_difference:g} allowed")
    return said


def otherwise(given: Mapping[str, Any], own: Probabilities, found: Mapping[str, float]) -> bool:
    """Whether a probability is more than twice as far from the artifact's as that of the farthest utterance."""
    slack = 2 * found["max_probability_difference"] + ROUNDING
    return bool(np.abs(np.array(given["probabilities"]) - own).max() > slack)
