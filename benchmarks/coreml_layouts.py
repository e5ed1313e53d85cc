"""What `targets.coreml-metal.layout: channels_first` changes: operators, errors against torch, time in the executor.

    python -m benchmarks.coreml_layouts [--classifier COMPRESSED ...] [FAMILY ...]

A classifier is a directory `build/compressed/C`; families are random models of two layers, as published.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rewrites import VOCABULARY, as_compressed, published, settings
from stages.core.process import quiet
from stages.schema.task import Task
from stages.schema.variant import Float
from stages.targets import registry
from stages.tasks.base import FORWARD, utterances

TARGET = "coreml-metal"
TEXTS = 24
SHORT, LONG = (Task(name="classify", max_length=n, sequence_lengths=[n // 2, n]) for n in (16, 32))
SHOWN = ("linear", "conv", "transpose", "reshape")


def measured(checkpoint: Path, task: Task, vocabulary: int, folder: Path) -> list[str]:
    """Return a row for each layout: its operators and, at fp32 and fp16, its error over the largest logit and its time.

    Args:
        checkpoint: with a `profile.json`.
        task: the lengths to convert for.
        vocabulary: ids below it make the texts.
        folder: for what is made.
    """
    import torch

    from stages.models.checkpoint import load_model
    from stages.targets.coreml_metal.package import PACKAGE, operations, read_program

    torch.set_num_threads(1)
    random, rows = np.random.default_rng(0), []
    mask = (np.arange(task.max_length) < random.integers(3, task.max_length + 1, (TEXTS, 1))).astype(np.int32)
    ids = random.integers(5, vocabulary, mask.shape).astype(np.int32) * mask
    texts = list(utterances({"input_ids": ids, "attention_mask": mask}))
    model = load_model(checkpoint)
    with torch.no_grad():
        given = [{name: torch.tensor(value) for name, value in text.items()} for text in texts]
        wanted = np.concatenate([model(**one).logits.numpy() for one in given])
    for layout in ("channels_last", "channels_first"):
        target = settings(TARGET, layout=layout)
        wide, half = folder / layout / "fp32", folder / layout / "fp16"
        wide.mkdir(parents=True)
        half.mkdir()
        with quiet(folder / "log"):
            registry.convert(TARGET).convert(checkpoint, task, target, wide)
            registry.quantize(TARGET).quantize(wide, Float(kind="float", bits=16), {}, target, half)
        kinds = Counter(one.type for one in operations(read_program(half / PACKAGE)) if one.type != "const")
        told = [_answered(one, texts, wanted) for one in (wide, half)]
        counts = " | ".join(str(kinds[kind]) for kind in SHOWN)
        rows.append(f"{layout} | {kinds.total()} | {counts} | {' | '.join(told)}")
    return rows


def _answered(path: Path, texts: Sequence[Any], wanted: Any) -> str:
    runtime = registry.runtime(TARGET).open_runtime(path, threads=1)
    runtime.run(FORWARD, texts[0])
    began = time.process_time()
    found = np.concatenate([runtime.run(FORWARD, text)["logits"] for text in texts])
    spent = (time.process_time() - began) / len(texts)
    return f"{np.abs(found - wanted).max() / np.abs(wanted).max():.1e} | {1e3 * spent:.2f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--classifier", type=Path, nargs="+", default=[])
    parser.add_argument("families", nargs="*")
    arguments = parser.parse_args(argv)
    print(f"| | layout | operators | {' | '.join(SHOWN)} | fp32 error | CPU ms | fp16 error | CPU ms |")
    print("|---|---|" + "--:|" * (len(SHOWN) + 5))
    with tempfile.TemporaryDirectory() as scratch:
        for family in arguments.families:
            checkpoint = as_compressed(published(family), Path(scratch) / family / "checkpoint")
            rows = measured(checkpoint, SHORT, VOCABULARY, Path(scratch) / family)
            print(*(f"| {family} | {row} |" for row in rows), sep="\n", flush=True)
        for number, path in enumerate(arguments.classifier):
            size = json.loads((path / "config.json").read_text(encoding="utf-8"))["vocab_size"]
            rows = measured(path, LONG, size, Path(scratch) / f"classifier-{number}")
            print(*(f"| {path.name} | {row} |" for row in rows), sep="\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
