"""Measure the speed of the Core ML executor beside torch eager.

`python -m benchmarks.coreml_executor speed` and `... batch DATA_FULL_JSON` print tables of docs/coreml.md. Times are
CPU times of this process, so that other work on the host is left out but for what it takes of the caches.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.coreml import open_program
from stages.coreml.executor import MODES, Mode
from stages.targets.base import one_by_one
from stages.tasks.classify.interface import CALLS

Array = npt.NDArray[Any]
SIZES = {"2 layers x 128": (2, 128), "4 layers x 256": (4, 256)}
LENGTH = 32
LENGTHS = [16, 32]
"""Of a package with enumerated shapes."""
MASK_CONSTANT = 1e4


def _module(model: Any) -> Any:
    from stages.models.export import ExportModule

    return ExportModule(model, MASK_CONSTANT).eval()


def _converted(module: Any, precision: str, lengths: Sequence[int] = (LENGTH,)) -> Any:
    import torch

    from stages.targets.coreml_metal import toolchain

    toolchain.load_with_torch()
    example = tuple(torch.ones(1, LENGTH, dtype=torch.int32) for _ in range(2))
    with torch.no_grad():
        traced = torch.jit.trace(module, example, check_trace=False)
    return toolchain.build(traced, one_by_one(CALLS[0]), lengths, "iOS18", precision, None)


def _random_bert(layers: int, width: int) -> Any:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=8000,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_labels=150,
        attn_implementation="eager",
    )
    torch.manual_seed(0)
    return BertForSequenceClassification(config).eval()


def cpu_ms(function: Callable[[], Any]) -> float:
    """CPU time of one call in milliseconds."""
    started = time.process_time()
    function()
    return (time.process_time() - started) * 1e3


def medians(functions: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median CPU time of each function in milliseconds, in turn, each timed call after one that fills the caches."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            function()
            times[name].append(cpu_ms(function))
    return {name: statistics.median(found) for name, found in times.items()}


def _inputs(length: int) -> dict[str, Array]:
    return {key: np.ones((1, length), np.int32) for key in ("input_ids", "attention_mask")}


def _eager(module: Any, inputs: Mapping[str, Array]) -> Any:
    import torch

    with torch.inference_mode():
        return module(*(torch.from_numpy(value) for value in inputs.values()))


def speed(folder: Path, repeats: int) -> Iterator[str]:
    """Yield lines of the speed table: one thread, one utterance that fills its shape."""
    import torch

    torch.set_num_threads(1)
    yield "| encoder | program | tokens | mode | opening ms | executor ms | torch eager ms | ratio |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, size in SIZES.items():
        module = _module(_random_bert(*size))
        for precision, lengths in itertools.product(("FLOAT32", "FLOAT16"), ([LENGTH], LENGTHS)):
            package = folder / f"{size[0]}-{precision}-{len(lengths)}.mlpackage"
            _converted(module, precision, lengths).save(str(package))
            opening = statistics.median(cpu_ms(lambda: open_program(package)) for _ in range(5))  # noqa: B023
            program = open_program(package)
            modes: tuple[Mode, ...] = MODES if precision == "FLOAT16" and len(lengths) == 1 else ("exact",)
            for length, mode in itertools.product(lengths, modes):
                inputs = _inputs(length)
                functions = {
                    "ours": functools.partial(program.run, inputs, mode),
                    "eager": functools.partial(_eager, module, inputs),
                }
                found = medians(functions, repeats)
                yield (
                    f"| {name} | {precision.lower()}, {' or '.join(map(str, lengths))} | {length} | {mode} "
                    f"| {opening:.0f} | {found['ours']:.2f} | {found['eager']:.2f} "
                    f"| {found['ours'] / found['eager']:.2f} |"
                )


def batch(data: Path, folder: Path) -> Iterator[str]:
    """Yield lines of the batch table: every in-scope test item by itself, through a fresh 4-layer encoder.

    Only the items' lengths are used: words and the two tokens around them. torch runs them unpadded, the executor
    padded to the next of its shapes.
    """
    import torch

    torch.set_num_threads(1)
    module = _module(_random_bert(*SIZES["4 layers x 256"]))
    package = folder / "batch.mlpackage"
    _converted(module, "FLOAT16", LENGTHS).save(str(package))
    program = open_program(package)
    words = [min(len(text.split()) + 2, LENGTH) for text, _ in json.loads(data.read_text(encoding="utf-8"))["test"]]
    totals = dict.fromkeys(("torch eager", *MODES[:2]), 0.0)
    for count in words:
        padded = _inputs(next(length for length in LENGTHS if count <= length))
        totals["torch eager"] += cpu_ms(functools.partial(_eager, module, _inputs(count)))
        for mode in MODES[:2]:
            totals[mode] += cpu_ms(functools.partial(program.run, padded, mode))
    yield f"{len(words)} items of {statistics.mean(words):.1f} tokens on average, 4 layers x 256, fp16"
    yield ""
    yield "| | CPU seconds | ratio |"
    yield "|---|---|---|"
    for name, milliseconds in totals.items():
        yield f"| {name} | {milliseconds / 1e3:.1f} | {milliseconds / totals['torch eager']:.2f} |"


def main(argv: list[str]) -> int:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("speed").add_argument("--repeats", type=int, default=50)
    commands.add_parser("batch").add_argument("data", type=Path)
    arguments = parser.parse_args(argv)
    os.environ["TQDM_DISABLE"] = "1"
    with tempfile.TemporaryDirectory() as name, contextlib.suppress(BrokenPipeError):
        folder = Path(name)
        tables = {
            "speed": lambda: speed(folder, arguments.repeats),
            "batch": lambda: batch(arguments.data, folder),
        }
        for line in tables[arguments.command]():
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
