"""A second honesty bar: what is left of a teacher when a text is the weighted mean of its tokens' vectors.

    python -m benchmarks.static_bar --teacher build/teacher --data build/data

Every token of the vocabulary goes through the teacher's encoder once, between the tokens that frame a text. The vectors
are centred and projected to their first principal components, weighted by how rare the token is in the train split, and
averaged over a text; a logistic regression on the labels answers. That is a table lookup and one small product: a
student that is no better is not worth its layers. The regression's strength is chosen on validation, the test split is
read once.

Source: Tulkens & van Dongen, Model2Vec (2024), for the table; Arora, Liang & Ma, A Simple but Tough-to-Beat Baseline
for Sentence Embeddings (2017), section 3, for the weights a / (a + p).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact, splits
from stages.measure.statistics import proportion_interval

RARE = 1e-3
"""Share of all tokens from which on a token counts for half of a rarest one."""
STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)
"""Inverse strengths of the regularisation that validation chooses from."""
METHOD = "mean of the teacher's token vectors, logistic regression"
Matrix = NDArray[np.float32]


def vectors(model: Any, tokenizer: Any, batch_size: int = 512) -> Matrix:
    """Return what the encoder makes of every token alone: float32 [vocabulary, hidden].

    Args:
        model: a classifier.
        tokenizer: its own; one token stands before a text, one behind.
        batch_size: tokens at once.
    """
    import torch

    first, last = tokenizer("").input_ids
    ids = torch.arange(model.get_input_embeddings().num_embeddings)
    found = []
    with torch.inference_mode():
        for part in ids.split(batch_size):
            framed = torch.stack([torch.full_like(part, first), part, torch.full_like(part, last)], dim=1)
            states = model.base_model(input_ids=framed, attention_mask=torch.ones_like(framed))
            found.append(states.last_hidden_state[:, 1].float().numpy())
    return np.concatenate(found)


def table(words: Matrix, counts: NDArray[np.int64], special: Sequence[int], dimensions: int) -> Matrix:
    """Project vectors to their principal components and weight them by rarity; special tokens count nothing.

    Args:
        words: [vocabulary, hidden]
        counts: [vocabulary] how often train has each token.
        special: ids that are no text.
        dimensions: components that are kept, at most `hidden`.
    """
    counts = counts.copy()
    counts[list(special)] = 0
    weights = RARE / (RARE + counts / counts.sum())
    weights[list(special)] = 0.0
    centred = words - words.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    projected: Matrix = (centred @ directions[:, ::-1][:, :dimensions] * weights[:, None]).astype(np.float32)
    return projected


def embed(rows: Matrix, input_ids: NDArray[np.int32], attention_mask: NDArray[np.int32]) -> Matrix:
    """Return the direction of each text's weighted mean: [texts, dimensions], zeros where no token counts."""
    total = np.stack([rows[ids[mask > 0]].sum(axis=0) for ids, mask in zip(input_ids, attention_mask, strict=True)])
    norms = np.linalg.norm(total, axis=1, keepdims=True)
    found: Matrix = np.divide(total, norms, out=np.zeros_like(total), where=norms > 0)
    return found


def measure(teacher: Path, data: Path, dimensions: int, max_length: int) -> dict[str, Any]:
    """Build the bar of a teacher and score it on the test split.

    Args:
        teacher: a classifier's directory.
        data: output of `prepare`.
        dimensions: of the vectors.
        max_length: tokens of a text that are read.

    Returns:
        `accuracy` with its 95 % interval, `n`, `validation_accuracy`, `strength`, `parameters` and the method.
    """
    from sklearn.linear_model import LogisticRegression

    from stages.models.checkpoint import load_model, load_tokenizer
    from stages.models.encode import encode

    artifact.require(data)
    model, tokenizer = load_model(teacher), load_tokenizer(teacher)
    read = {name: splits.read_split(data, name) for name in ("train", "validation", "test")}
    encoded = {name: encode(tokenizer, split.texts, max_length) for name, split in read.items()}
    words = vectors(model, tokenizer)
    train = encoded["train"]
    counts = np.bincount(train.input_ids[train.attention_mask > 0], minlength=len(words))
    rows = table(words, counts, tokenizer.all_special_ids, min(dimensions, words.shape[1]))
    texts = {name: embed(rows, one.input_ids, one.attention_mask) for name, one in encoded.items()}
    tried = []
    for strength in STRENGTHS:
        head = LogisticRegression(C=strength, max_iter=200).fit(texts["train"], read["train"].labels)
        tried.append((head.score(texts["validation"], read["validation"].labels), -strength, head))
    validation, strength, head = max(tried, key=lambda one: one[:2])
    right = int((head.predict(texts["test"]) == np.asarray(read["test"].labels)).sum())
    return {
        "accuracy": right / len(texts["test"]),
        "accuracy_interval": proportion_interval(right, len(texts["test"])),
        "method": METHOD,
        "n": len(texts["test"]),
        "parameters": int(rows.size + head.coef_.size + head.intercept_.size),
        "strength": -strength,
        "validation_accuracy": float(validation),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--dimensions", type=int, default=256)
    arguments = parser.parse_args(argv)
    length = artifact.manifest(arguments.data)["params"]["task"]["max_length"]
    found = measure(arguments.teacher, arguments.data, arguments.dimensions, length)
    linear = artifact.read_json(arguments.data / "summary.json")["baseline"]
    for bar in (linear, found):
        low, high = bar["accuracy_interval"]
        print(f"{100 * bar['accuracy']:.2f} % [{100 * low:.2f}, {100 * high:.2f}], n = {bar['n']}: {bar['method']}")
    print(json.dumps(found, indent=2, sort_keys=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
