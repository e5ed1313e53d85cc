"""Put faults into the checkpoint before it is converted, and see whether the layer is named in every artifact.

    python -m benchmarks.divergence --build build

A converter with a fault and a sound converter of a damaged checkpoint make the same artifact. Each fault is converted
for every target, lowered to every precision of the build, and compared with the sound checkpoint. Prints the tables of
docs/divergence.md: the largest errors of the build's own variants, then what each fault is reported as.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages import convert, quantize
from stages.core import artifact, params
from stages.measure.items import ITEMS, arrays
from stages.targets import divergence, registry
from stages.targets.answers import evaluate, measure
from stages.targets.base import read_signature
from stages.targets.divergence import Case
from stages.tasks import registry as tasks

Weights = dict[str, NDArray[np.float32]]
COMPRESSION = "none"
SOUND_UTTERANCES = 16


@dataclass(frozen=True)
class Fault:
    """A fault and the layer that must be named.

    Attributes:
        name: what is wrong.
        module: path of the layer, in a BERT checkpoint.
        damage: changes weights in place, given ids that texts contain.
        config: fields of config.json that change.
    """

    name: str
    module: str
    damage: Callable[[Weights, list[int]], None]
    config: dict[str, Any]


def _zero(weights: Weights, ids: list[int]) -> None:  # noqa: ARG001
    for part in ("weight", "bias"):
        weights[f"bert.encoder.layer.1.output.dense.{part}"][:] = 0


def _exchange(weights: Weights, ids: list[int]) -> None:  # noqa: ARG001
    for part in ("weight", "bias"):
        one, other = (f"bert.encoder.layer.0.attention.self.{name}.{part}" for name in ("query", "key"))
        weights[one], weights[other] = weights[other], weights[one]


def _transpose(weights: Weights, ids: list[int]) -> None:  # noqa: ARG001
    name = "bert.encoder.layer.1.attention.output.dense.weight"
    weights[name] = np.ascontiguousarray(weights[name].T)


def _exchange_rows(weights: Weights, ids: list[int]) -> None:
    rows = weights["bert.embeddings.word_embeddings.weight"]
    rows[ids[:2]] = rows[ids[1::-1]]


def _nothing(weights: Weights, ids: list[int]) -> None:
    """The fault is in the config."""


FAULTS = (
    Fault("zeroed FFN of layer 1", "bert.encoder.layer.1.output.dense", _zero, {}),
    Fault("query and key of layer 0 exchanged", "bert.encoder.layer.0.attention.self.query", _exchange, {}),
    Fault(
        "transposed square weight in layer 1",
        "bert.encoder.layer.1.attention.output.dense",
        _transpose,
        {},
    ),
    Fault("two embedding rows exchanged", "bert.embeddings.word_embeddings", _exchange_rows, {}),
    Fault(
        "quick GELU replaced by ReLU",
        "bert.encoder.layer.0.intermediate.intermediate_act_fn",
        _nothing,
        {"hidden_act": "relu"},
    ),
    Fault("LayerNorm epsilon 1e-2 for 1e-12", "bert.embeddings.LayerNorm", _nothing, {"layer_norm_eps": 1e-2}),
)


def inject(fault: Fault, checkpoint: Path, reference: Path, out: Path) -> None:
    """Write a damaged copy of a checkpoint."""
    from safetensors.numpy import load_file, save_file

    weights = {name: value.copy() for name, value in load_file(checkpoint / "model.safetensors").items()}
    ids, counts = np.unique(artifact.read_arrays(reference / "probe.npz")["input_ids"][:, 1:], return_counts=True)
    fault.damage(weights, [int(ids[i]) for i in np.argsort(-counts)[2:]])  # after padding and the separator
    with artifact.writing(out, stage="compress", parents={}) as temporary:
        shutil.copytree(checkpoint, temporary, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
        save_file(weights, temporary / "model.safetensors", metadata={"format": "pt"})
        config = artifact.read_json(checkpoint / "config.json")
        artifact.write_json(temporary / "config.json", config | fault.config)


def measured(case: Case) -> Case:
    """Run the probe split, as parity does, so that the worst utterances are known."""
    session = registry.runtime(case.target).open_runtime(case.artifact, threads=1)
    probe = artifact.read_arrays(case.reference / "probe.npz")
    case.parity.mkdir(parents=True)
    exercise = tasks.exercise(read_signature(case.artifact).task)
    record = measure(probe, exercise.case(probe), evaluate(exercise, session, probe, case.artifact.name))[1]
    artifact.write_arrays(case.parity / ITEMS, arrays({"probe": record}))
    return case


def broken_cases(fault: Fault, build: Path, variants: dict[str, dict[str, Any]], root: Path) -> dict[str, Case]:
    """Convert a damaged checkpoint to every variant."""
    checkpoint, reference = build / "compressed" / COMPRESSION, build / "reference" / COMPRESSION
    inject(fault, checkpoint, reference, root / "checkpoint")
    cases = {}
    for key, variant in variants.items():
        target, converted = variant["target"], root / "converted" / variant["target"]
        if not converted.exists():
            settings = params.load(convert.Params, {"task": "task", "target": f"targets.{target}"})
            convert.run(settings, root / "checkpoint", converted)
        names = {"precision": f"precisions.{variant['precision']}", "target": f"targets.{target}"}
        quantize.run(params.load(quantize.Params, names), converted, reference, root / key)
        cases[key] = measured(Case(target, root / key, checkpoint, reference, root / "parity" / key))
    return cases


def sound_margins(build: Path, key: str, variant: dict[str, Any]) -> str:
    """Largest errors of a sound variant, over its bands."""
    from stages.models import divergence as following
    from stages.models.checkpoint import load_model
    from stages.models.trail import Tensor

    directory, reference = build / "artifact" / key, build / "reference" / variant["compression"]
    bands = divergence.bands_of(artifact.read_json(directory / "quantization.json")["asked"])
    model, probe = (
        load_model(build / "compressed" / variant["compression"]),
        artifact.read_arrays(reference / "probe.npz"),
    )
    worst = {bands.matrix: 0.0, bands.rest: 0.0}
    beyond = 0
    for row in range(0, len(probe["labels"]), len(probe["labels"]) // SOUND_UTTERANCES):
        inputs = {name: probe[name][row : row + 1] for name in ("input_ids", "attention_mask")}
        found = registry.intermediates(variant["target"]).intermediates(directory, inputs)
        trail = following.follow(model, inputs, [Tensor(*item) for item in found], bands)
        beyond += trail.divergence is not None
        for step in trail.steps:
            worst[step.band] = max(worst[step.band], step.error)
    cells = " | ".join(f"{worst[band]:.1e} of {band:g}" for band in (bands.matrix, bands.rest))
    return f"| {key} | {cells} | {beyond} of {SOUND_UTTERANCES} |"


def main() -> int:
    """Print both tables; exit 1 where a layer is not named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--json", type=Path, help="where everything found goes")
    arguments = parser.parse_args()
    variants: dict[str, dict[str, Any]] = params.read(params.PARAMS_FILE)["variants"]
    print("| sound variant | layers with a matrix | rest | reported |\n|---|---|---|---|")
    for key, variant in variants.items():
        print(sound_margins(arguments.build, key, variant), flush=True)
    chosen = {key: variant for key, variant in variants.items() if variant["compression"] == COMPRESSION}
    everything, missed = {}, 0
    for fault in FAULTS:
        print(f"\n**{fault.name}**: `{fault.module}`\n", flush=True)
        with tempfile.TemporaryDirectory() as scratch:
            cases = broken_cases(fault, arguments.build, chosen, Path(scratch))
            started = time.perf_counter()
            found = divergence.locate(cases)
            seconds = time.perf_counter() - started
        for key, one in found.items():
            named = one.get("module") == fault.module
            missed += not named
            print(f"- {'named' if named else 'NOT NAMED'}, {key}: {one['conclusion']}", flush=True)
        print(f"\n{len(found)} artifacts in {seconds:.1f} s", flush=True)
        everything[fault.name] = found
    if arguments.json:
        arguments.json.write_text(json.dumps(everything, indent=2), encoding="utf-8")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
