"""Classify text with a bundle's model.onnx: ONNX Runtime, the `tokenizers` library, numpy.

python samples/classify_onnx.py "hello there"
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

BUNDLE = Path(__file__).absolute().parent.parent
LIMITS = json.loads((BUNDLE / "limits.json").read_text(encoding="utf-8"))
LABELS = (BUNDLE / "labels.txt").read_text(encoding="utf-8").splitlines()


def main(texts: list[str]) -> None:
    """Print label, probability and text, a line each."""
    tokenizer = Tokenizer.from_file(str(BUNDLE / "tokenizer" / "tokenizer.json"))
    tokenizer.enable_truncation(LIMITS["max_length"])
    session = onnxruntime.InferenceSession(BUNDLE / "model.onnx", providers=["CPUExecutionProvider"])
    for text in texts:
        ids = np.array([tokenizer.encode(text).ids], np.int32)
        (logits,) = session.run(["logits"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        powers = np.exp(logits[0] - logits[0].max())
        best = int(powers.argmax())
        print(f"{LABELS[best]}\t{powers[best] / powers.sum():.4f}\t{text}")


if __name__ == "__main__":
    main(sys.argv[1:])
