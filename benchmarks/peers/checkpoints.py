"""Lay out the checkpoints that everybody converts.

    python -m benchmarks.peers.checkpoints --real ../shared/real --out .bench/peers/checkpoints

The CLINC150 teacher and student are copied. No trained MobileBERT or ALBERT of this size lies here, so those two have
random weights from a fixed seed: latency and size do not depend on the weights' values, quality does.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from stages.core import artifact

REAL = ("teacher", "student")
RANDOM: dict[str, dict[str, Any]] = {
    "mobilebert": {
        "embedding_size": 64,
        "hidden_size": 256,
        "intermediate_size": 256,
        "intra_bottleneck_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 4,
    },
    "albert": {
        "embedding_size": 64,
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_attention_heads": 4,
        "num_hidden_layers": 4,
    },
}
NAMES = (*REAL, *RANDOM)
SEED = 7


def invent(family: str, shape: dict[str, Any], like: Path, out: Path) -> None:
    """Write a classifier with random weights, and the tokenizer, vocabulary, positions and labels of another.

    Args:
        family: Hugging Face model type.
        shape: its sizes.
        like: a checkpoint directory.
        out: directory to write.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    other = artifact.read_json(like / "config.json")
    kept = {name: other[name] for name in ("max_position_embeddings", "pad_token_id", "type_vocab_size", "vocab_size")}
    labels = {int(index): label for index, label in other["id2label"].items()}
    config = AutoConfig.for_model(family, **kept, **shape, id2label=labels, label2id=other["label2id"])
    torch.manual_seed(SEED)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(out)
    for path in like.glob("tokenizer*"):
        shutil.copyfile(path, out / path.name)


def main() -> int:
    """Write all of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    for name in REAL:
        shutil.copytree(
            arguments.real / f"clinc150_{name}", arguments.out / name, dirs_exist_ok=True, copy_function=shutil.copyfile
        )
    for family, shape in RANDOM.items():
        invent(family, shape, arguments.out / "student", arguments.out / family)
    return 0


if __name__ == "__main__":
    sys.exit(main())
