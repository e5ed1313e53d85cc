"""Classify text with a bundle's LiteRT model: ai-edge-litert, the `tokenizers` library, numpy.

python samples/classify_litert.py "hello there"
"""

import json
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from tokenizers import Tokenizer

BUNDLE = Path(__file__).absolute().parent.parent
LIMITS = json.loads((BUNDLE / "limits.json").read_text(encoding="utf-8"))
LABELS = (BUNDLE / "labels.txt").read_text(encoding="utf-8").splitlines()
PAD = LIMITS["special_tokens"]["pad_token"]["id"]


def main(texts: list[str]) -> None:
    """Print label, probability and text, a line each."""
    tokenizer = Tokenizer.from_file(str(BUNDLE / "tokenizer" / "tokenizer.json"))
    tokenizer.enable_truncation(LIMITS["max_length"])
    interpreter = Interpreter(model_path=str(BUNDLE / LIMITS["forms"]["litert"]["path"]), num_threads=1)
    for text in texts:
        ids = tokenizer.encode(text).ids
        length = next(length for length in LIMITS["sequence_lengths"] if length >= len(ids))
        missing = length - len(ids)
        # A runner of its own for each length: every signature has inputs and buffers of its own.
        run = interpreter.get_signature_runner(f"length_{length}")
        logits = run(
            input_ids=np.array([ids + missing * [PAD]], np.int32),
            attention_mask=np.array([len(ids) * [1] + missing * [0]], np.int32),
        )["logits"][0]
        scale, zero = run.get_output_details()["logits"]["quantization"]
        values = (logits.astype(np.float32) - zero) * scale if logits.dtype != np.float32 else logits
        powers = np.exp(values - values.max())
        best = int(powers.argmax())
        print(f"{LABELS[best]}\t{powers[best] / powers.sum():.4f}\t{text}")


if __name__ == "__main__":
    main(sys.argv[1:])
