"""What the rewrites for NNAPI and tflite-micro win in operators, and what those that change answers cost.

    python -m benchmarks.rewrites coverage [--family FAMILY ...] [--classifier DIR ...] [--language-model DIR ...]
    python -m benchmarks.rewrites cost --data build/data [--split test] CHECKPOINT [CHECKPOINT ...]

`coverage` converts checkpoints as published, and rewritten: random two-layer ones of every family unless others are
named. It prints the share of operators taken and the number of parts at NNAPI's feature levels 6 and 8, and the share
that tflite-micro has. `cost` answers a split with every approximation of a GELU, in torch, with 95 % intervals.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import TypeAdapter

from stages.core import artifact, splits
from stages.core.closure import ROOT
from stages.core.errors import Unsupported
from stages.core.process import quiet
from stages.schema.task import Task
from stages.schema.variant import Static, Target
from stages.targets import registry

TARGET = "tflite-nnapi"
FAMILIES = ("bert", "distilbert", "mobilebert", "albert", "electra", "roberta", "modernbert")
NARROWER = {
    "albert": {"embedding_size": 16},
    "electra": {"embedding_size": 16},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 32},
}
"""What a small model of the family needs beside the sizes that all have."""
ACCELERATORS = ("nnapi_fl6", "nnapi_fl8", "tflite_micro")
APPROXIMATIONS = {"gelu_as_tanh": "gelu_pytorch_tanh", "gelu_as_sigmoid": "quick_gelu"}
"""Compression → what transformers calls the activation."""
STATIC = Static(kind="static", weight_bits=8, activation_bits=8, granularity="tensor")
CLASSIFY = Task(name="classify", max_length=16, sequence_lengths=[16])
GENERATE = Task(name="generate", max_length=512, sequence_lengths=[32, 128, 512])
VOCABULARY, TEXTS, SEED = 64, 32, 0
MASK_CONSTANT = 32.0


def published(family: str) -> Any:
    """Return a random two-layer classifier of a family, with the activation that its config has by default."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    from stages.models import families

    known = families.find(family)
    sizes = {known.hidden_size: 32, known.ffn_size: 64, known.heads: 4, known.layers: 2}
    config = AutoConfig.for_model(
        family,
        **sizes,
        **NARROWER.get(family, {}),
        vocab_size=VOCABULARY,
        max_position_embeddings=CLASSIFY.max_length + known.first_position({"pad_token_id": 0}),
        pad_token_id=0,
        num_labels=4,
    )
    torch.manual_seed(SEED)
    return AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").eval()


def settings(target: str, **changes: str) -> Target:
    """Return a target's section as conf has it, with some settings changed."""
    section = yaml.safe_load((ROOT / f"conf/target/{target}.yaml").read_text(encoding="utf-8"))
    found: Target = TypeAdapter(Target).validate_python(section | changes)
    return found


def as_compressed(model: Any, checkpoint: Path) -> Path:
    """Save a classifier as `compress` leaves one, with what `convert` reads beside it; return the directory."""
    model.save_pretrained(checkpoint)
    artifact.write_json(checkpoint / "profile.json", {"mask_constant": MASK_CONSTANT})
    return checkpoint


def classifiers(model: Any, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield a name and an artifact: of a classifier before and after, at fp32 and with static integers.

    Args:
        model: as published; left as it is.
        folder: for what is made.
    """
    from stages.models import gelu

    rewritten = copy.deepcopy(model)
    with contextlib.suppress(Unsupported):  # a ReLU, or the tanh form already, which the target writes out
        gelu.approximate(rewritten, APPROXIMATIONS["gelu_as_tanh"])
    random = np.random.default_rng(SEED)
    ids = random.integers(5, VOCABULARY, (TEXTS, CLASSIFY.max_length)).astype(np.int32)
    texts = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    for name, one, form in (("before", model, "operator"), ("after", rewritten, "factored")):
        checkpoint, converted, static = (folder / name / part for part in ("checkpoint", "fp32", "static"))
        as_compressed(one, checkpoint)
        target = settings(TARGET, tanh_gelu=form)
        converted.mkdir()
        static.mkdir()
        with quiet(folder / "log"):
            registry.convert(TARGET).convert(checkpoint, CLASSIFY, target, converted)
            registry.quantize(TARGET).quantize(converted, STATIC, texts, target, static)
        yield f"fp32, {name}", converted
        yield f"static_wi8_ai8, {name}", static


def language_models(checkpoint: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield a name and an artifact: of a decoder at fp32 before and after.

    Args:
        checkpoint: a Hugging Face directory.
        folder: for what is made.
    """
    for name, update in (("before", "in_place"), ("after", "arithmetic")):
        (folder / name).mkdir(parents=True)
        with quiet(folder / "log"):
            registry.convert(TARGET).convert(checkpoint, GENERATE, settings(TARGET, cache_update=update), folder / name)
        yield f"fp32, {name}", folder / name


def taken(name: str, path: Path) -> str:
    """Return a row of Markdown: for each accelerator the share of operators, sure products, and parts."""
    from stages.accelerators.covering import cover

    told = cover(TARGET, path)["accelerators"]
    return f"| {name} | " + " | ".join(
        f"{100 * told[one]['operators']:.2f} %, {100 * told[one]['sure_macs']:.0f} %, {told[one]['partitions']}"
        for one in ACCELERATORS
    )


def answers(checkpoint: Path, split: splits.Split, classes: Sequence[str], max_length: int) -> Iterator[Any]:
    """Yield a name, float32 logits [texts, classes] and the right classes [texts]: as published, then approximated."""
    from stages.models import gelu
    from stages.models.checkpoint import load_model, load_tokenizer
    from stages.models.encode import logits
    from stages.tasks.examples import examples

    read = examples("classify", load_tokenizer(checkpoint), split, classes, max_length)
    model = load_model(checkpoint)
    if [model.config.id2label[index] for index in range(len(classes))] != list(classes):
        raise SystemExit(f"{checkpoint} numbers its classes otherwise than the data: name a build's teacher or student")
    yield "as published", logits(model, read.encoded), read.labels
    for name, activation in APPROXIMATIONS.items():
        model = load_model(checkpoint)
        gelu.approximate(model, activation)
        yield name, logits(model, read.encoded), read.labels


def cost(name: str, changed: NDArray[np.float32], reference: NDArray[np.float32], labels: NDArray[np.int64]) -> str:
    """Return a row of Markdown: agreement, accuracy, its difference, and the worst logit as a share of their spread."""
    from stages.measure.statistics import paired_difference, proportion_interval

    one, other = changed.argmax(1), reference.argmax(1)
    same, right = one == other, one == labels
    low, high = proportion_interval(int(same.sum()), len(same))
    difference, (least, most) = paired_difference(right, other == labels)
    worst = float(np.abs(changed - reference).max() / reference.std())
    return (
        f"| {name} | {100 * same.mean():.2f} % [{100 * low:.2f}, {100 * high:.2f}] | {100 * right.mean():.2f} % | "
        f"{100 * difference:+.2f} [{100 * least:.2f}, {100 * most:.2f}] | {worst:.4f} |"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print one of the two tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    covering = commands.add_parser("coverage")
    for option, kind in (("--family", str), ("--classifier", Path), ("--language-model", Path)):
        covering.add_argument(option, type=kind, nargs="+", default=[])
    costing = commands.add_parser("cost")
    costing.add_argument("--data", type=Path, required=True)
    costing.add_argument("--split", choices=("validation", "test"), default="validation")
    costing.add_argument("checkpoints", type=Path, nargs="+")
    arguments = parser.parse_args(argv)
    if arguments.command == "coverage":
        _coverage(arguments)
    else:
        _cost(arguments)
    return 0


def _coverage(arguments: argparse.Namespace) -> None:
    from stages.models.checkpoint import load_model

    named = arguments.family or arguments.classifier or arguments.language_model
    print(f"| operators, sure products, parts | {' | '.join(ACCELERATORS)} |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for family in arguments.family if named else FAMILIES:
            _print(family, classifiers(published(family), folder / family))
        for number, path in enumerate(arguments.classifier):
            _print(path.name, classifiers(load_model(path), folder / f"classifier-{number}"))
        for number, path in enumerate(arguments.language_model):
            _print(path.name, language_models(path, folder / f"language-model-{number}"))


def _print(title: str, made: Iterator[tuple[str, Path]]) -> None:
    for name, path in made:
        print(taken(f"{title}, {name}", path), "|", flush=True)


def _cost(arguments: argparse.Namespace) -> None:
    artifact.require(arguments.data)
    length = artifact.manifest(arguments.data)["params"]["task"]["max_length"]
    split, classes = splits.read_split(arguments.data, arguments.split), splits.read_labels(arguments.data)
    print(f"| {arguments.split}, {len(split.texts):,} texts | agreement | accuracy | difference | worst logit |")
    print("|---|--:|--:|--:|--:|")
    for checkpoint in arguments.checkpoints:
        reference = None
        for name, logits, labels in answers(checkpoint, split, classes, length):
            reference = logits if reference is None else reference
            print(cost(f"{checkpoint.name}, {name}", logits, reference, labels), flush=True)


if __name__ == "__main__":
    sys.exit(main())
