"""Converts the two-layer BERT, and a small stateful program, that the mutations are put into."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.coreml_edit import Array, Subject
from stages.coreml import open_program
from stages.coreml.weights import compare
from stages.targets.base import one_by_one
from stages.tasks.classify.interface import CALLS

LENGTH = 12
VOCABULARY = 60
LABELS = 5


def tiny_bert() -> Any:
    """Return a random two-layer BERT classifier, small enough to convert in a second."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        num_labels=LABELS,
        initializer_range=0.3,
        attn_implementation="eager",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertForSequenceClassification(config)
        for parameter in model.parameters():  # LayerNorms start as ones and zeros, where exchanging them proves nothing
            if parameter.ndim == 1:
                parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def batch(seed: int) -> dict[str, Array]:
    """Return one input: ids below 50, so that ten rows of the embedding are never read, and three padded places."""
    ids = np.random.default_rng(seed).integers(5, 50, (1, LENGTH)).astype(np.int32)
    mask = np.ones((1, LENGTH), np.int32)
    mask[:, -3:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def convert(model: Any, precision: str, target: str = "iOS18") -> Any:
    """Convert a classifier at a fixed length."""
    import torch

    from stages.models.export import ExportModule
    from stages.targets.coreml_metal import toolchain

    toolchain.load_with_torch()
    module = ExportModule(model, 1e4).eval()
    example = tuple(torch.from_numpy(value) for value in batch(0).values())
    with torch.no_grad():
        traced = torch.jit.trace(module, example, check_trace=False)
    return toolchain.build(traced, one_by_one(CALLS[0]), [LENGTH], target, precision, None)


def subjects(folder: Path) -> dict[str, Subject]:
    """Convert every subject.

    Args:
        folder: where the packages go.

    Returns:
        Subjects by precision, and `stateful`.
    """
    os.environ["TQDM_DISABLE"] = "1"
    model = tiny_bert()
    checkpoint = {name: value.numpy() for name, value in model.state_dict().items() if value.is_floating_point()}
    runs = tuple(batch(seed) for seed in range(2))
    made = {}
    for name, package in _packages(model, folder).items():
        expected = tuple(_expected(model, _as_stored(package, checkpoint), run) for run in runs)
        made[name] = Subject(package, runs, expected, checkpoint, 2e-6 if name == "fp32" else 2e-4)
    made["stateful"] = _stateful(folder)
    return made


def _as_stored(package: Path, checkpoint: dict[str, Array]) -> dict[str, Array]:
    """Return the checkpoint with every weight as the artifact holds it: what then remains is the conversion's error."""
    program = open_program(package)
    stored = {name: value.copy() for name, value in checkpoint.items()}
    values = dict(program.weights())
    for weight in compare(program, checkpoint).weights:
        value, key = values[weight.name].astype(np.float32), weight.source.rpartition(" ")[2]
        if weight.source == key:
            stored[key] = value
        elif "row" in weight.source:
            rows = value.reshape(-1, value.shape[-1])
            stored[key][: len(rows)] = rows[: len(stored[key])]
    return stored


def _expected(model: Any, weights: dict[str, Array], run: dict[str, Array]) -> Array:
    import torch

    from stages.models.export import ExportModule

    changed = copy.deepcopy(model)
    changed.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()}, strict=False)
    with torch.no_grad():
        return np.asarray(ExportModule(changed, 1e4).eval()(*(torch.from_numpy(v) for v in run.values())).numpy())


def _packages(model: Any, folder: Path) -> dict[str, Path]:
    base = {name: convert(model, name) for name in ("FLOAT32", "FLOAT16")}
    import coremltools.optimize.coreml as cto

    def configured(settings: Any) -> Any:
        return cto.OptimizationConfig(global_config=settings)

    linear, palette = cto.OpLinearQuantizerConfig, cto.OpPalettizerConfig
    models = {
        "fp32": base["FLOAT32"],
        "fp16": base["FLOAT16"],
        "weight_only_wi8": cto.linear_quantize_weights(
            base["FLOAT16"], configured(linear(mode="linear_symmetric", weight_threshold=0))
        ),
        "weight_only_wi4b4": cto.linear_quantize_weights(
            base["FLOAT16"],
            configured(
                linear(mode="linear_symmetric", dtype="int4", granularity="per_block", block_size=4, weight_threshold=0)
            ),
        ),
        "pal4": cto.palettize_weights(
            base["FLOAT16"], configured(palette(mode="uniform", nbits=4, weight_threshold=0))
        ),
    }
    for name, converted in models.items():
        converted.save(str(folder / f"{name}.mlpackage"))
    return {name: folder / f"{name}.mlpackage" for name in models}


def _stateful(folder: Path) -> Subject:
    """A running sum in a state: y = state + 2x, state = y."""
    import coremltools as ct
    from coremltools.converters.mil import Builder

    @Builder.program(  # type: ignore[untyped-decorator]
        input_specs=[Builder.TensorSpec((2,)), Builder.StateTensorSpec((2,), dtype=ct.converters.mil.mil.types.fp16)],
        opset_version=ct.target.iOS18,
    )
    def program(x: Any, total: Any) -> Any:
        half = Builder.cast(x=x, dtype="fp16")
        new = Builder.add(x=Builder.read_state(input=total), y=Builder.mul(x=half, y=np.float16(2)))
        return Builder.cast(x=Builder.coreml_update_state(state=total, value=new), dtype="fp32", name="y")

    package = folder / "stateful.mlpackage"
    ct.convert(program, minimum_deployment_target=ct.target.iOS18, skip_model_load=True).save(str(package))
    runs = tuple({"x": np.array(values, np.float32)} for values in ([1, 2], [3, 4], [5, 6]))
    sums = np.cumsum([2 * run["x"] for run in runs], axis=0).astype(np.float32)
    return Subject(package, runs, tuple(sums), {}, 1e-6)
