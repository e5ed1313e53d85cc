"""Measure the Core ML executor: speed beside torch eager, and quality of every precision on real test items.

`python -m benchmarks.coreml_executor speed`, `... batch DATA_FULL_JSON` and `... quality CHECKPOINT DATA_FULL_JSON`
print the tables of docs/coreml.md. Times of the first two are CPU times of this process, so that other work on the
host is left out but for what it takes of the caches.
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

from stages.coreml import LABEL, open_program
from stages.coreml.audit import audit
from stages.coreml.calibration import standing_in_for_predict
from stages.coreml.executor import MODES, Mode

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
    return toolchain.build(traced, lengths, "iOS18", precision, None)


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
    words = [min(len(text.split()) + 2, LENGTH) for text, _ in json.loads(data.read_text())["test"]]
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


def variants(fp16: Any, package: Path, samples: Sequence[Mapping[str, Array]]) -> Iterator[tuple[str, Any]]:
    """Yield (precision, model) compressed from an fp16 model that is saved at `package`."""
    import coremltools.optimize.coreml as cto
    from coremltools.optimize.coreml import experimental

    def linear(model: Any, **settings: Any) -> Any:
        each = cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=0, **settings)
        return cto.linear_quantize_weights(model, cto.OptimizationConfig(global_config=each))

    def palette(bits: int) -> Any:
        each = cto.OpPalettizerConfig(mode="kmeans", nbits=bits, weight_threshold=0, num_kmeans_workers=1)
        return cto.palettize_weights(fp16, cto.OptimizationConfig(global_config=each))

    yield "fp16", fp16
    yield "weight_only_wi8", linear(fp16, dtype="int8")
    yield "pal6", palette(6)
    yield "pal4", palette(4)
    yield "weight_only_wi4b32", linear(fp16, dtype="int4", granularity="per_block", block_size=32)
    activations = experimental.OpActivationLinearQuantizerConfig(mode="linear_symmetric")
    kinds = cto.OptimizationConfig(op_type_configs={"linear": activations, "matmul": activations})
    with standing_in_for_predict(open_program(package)):
        static = experimental.linear_quantize_activations(fp16, kinds, [dict(sample) for sample in samples])
    yield "static_wi8_ai8", linear(static, dtype="int8")


def quality(checkpoint: Path, data: Path, folder: Path) -> Iterator[str]:
    """Yield lines of the quality table, over every in-scope test item."""
    import torch

    from stages.models.checkpoint import load_model, load_tokenizer

    torch.set_num_threads(1)
    model, tokenizer = load_model(checkpoint), load_tokenizer(checkpoint)
    module = _module(model)
    items = json.loads(data.read_text())
    inputs, labels = _encoded(tokenizer, model, items["test"])
    calibration, _ = _encoded(tokenizer, model, items["val"][:: max(1, len(items["val"]) // 64)])
    with torch.no_grad():
        reference = np.concatenate([module(*(torch.from_numpy(v) for v in item.values())).numpy() for item in inputs])
    weights = {name: value.numpy() for name, value in model.state_dict().items() if value.is_floating_point()}
    fp16 = _converted(module, "FLOAT16")
    base = folder / "base.mlpackage"
    fp16.save(str(base))
    yield f"n = {len(labels)}; reference (torch fp32) accuracy {_accuracy(reference, labels):.4f}; label `{LABEL}`"
    yield ""
    yield "| precision | size bytes | accuracy | top-1 agreement | max abs error | audit | seconds |"
    yield "|---|---|---|---|---|---|---|"
    for name, compressed in variants(fp16, base, calibration):
        package = folder / f"{name}.mlpackage"
        compressed.save(str(package))
        yield _quality_line(name, package, inputs, labels, reference, weights)


def _quality_line(
    name: str, package: Path, inputs: list[dict[str, Array]], labels: Array, reference: Array, weights: Any
) -> str:
    program = open_program(package)
    started = time.perf_counter()
    logits = np.concatenate([program.run(item, "declared")["logits"] for item in inputs])
    seconds = time.perf_counter() - started
    report = audit(program, weights)
    verdict = "passed" if report.passed else f"{len(report.corrupted)} corrupted, {len(report.unmatched)} unmatched"
    size = sum(path.stat().st_size for path in package.rglob("*") if path.is_file())
    agreement = float((logits.argmax(1) == reference.argmax(1)).mean())
    error = float(np.abs(logits - reference).max())
    return (
        f"| {name} | {size} | {_accuracy(logits, labels):.4f} | {agreement:.4f} | {error:.2e} "
        f"| {len(report.weights)} weights: {verdict} | {seconds:.1f} |"
    )


def _encoded(tokenizer: Any, model: Any, items: list[list[str]]) -> tuple[list[dict[str, Array]], Array]:
    texts = [text for text, _ in items]
    encoded = tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="np")
    arrays = {key: encoded[key].astype(np.int32) for key in ("input_ids", "attention_mask")}
    rows = [{key: value[i : i + 1] for key, value in arrays.items()} for i in range(len(texts))]
    return rows, np.array([model.config.label2id[label] for _, label in items])


def _accuracy(logits: Array, labels: Array) -> float:
    return float((logits.argmax(1) == labels).mean())


def main(argv: list[str]) -> int:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("speed").add_argument("--repeats", type=int, default=50)
    commands.add_parser("batch").add_argument("data", type=Path)
    measured = commands.add_parser("quality")
    measured.add_argument("checkpoint", type=Path)
    measured.add_argument("data", type=Path)
    arguments = parser.parse_args(argv)
    os.environ["TQDM_DISABLE"] = "1"
    with tempfile.TemporaryDirectory() as name, contextlib.suppress(BrokenPipeError):
        folder = Path(name)
        tables = {
            "speed": lambda: speed(folder, arguments.repeats),
            "batch": lambda: batch(arguments.data, folder),
            "quality": lambda: quality(arguments.checkpoint, arguments.data, folder),
        }
        for line in tables[arguments.command]():
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
