"""Small checkpoints of every family, and how the tests of onnx-cpu lower and run them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from stages.schema.task import Task
from stages.schema.variant import Dynamic, Float, OnnxCpu, Precision, Static, WeightOnly
from stages.targets.onnx_cpu import graph, quantize
from stages.targets.onnx_cpu.runtime import open_runtime
from tests.targets.running import logits_of
from tests.toys.classifiers import compressed

REPOSITORY = Path(__file__).resolve().parents[2]
TASK = Task(name="classify", max_length=32, sequence_lengths=[16, 32])
TARGET = OnnxCpu(name="onnx-cpu", opset=20)
VOCABULARY, LABELS, MASK_CONSTANT = 300, 5, 32.0
FAMILIES = ("bert", "distilbert", "mobilebert", "albert")
INTEGER: dict[str, Precision] = {
    "dynamic-channel": Dynamic(kind="dynamic", weight_bits=8, granularity="channel"),
    "dynamic-tensor": Dynamic(kind="dynamic", weight_bits=8, granularity="tensor"),
    "static-channel": Static(kind="static", weight_bits=8, activation_bits=8, granularity="channel"),
    "static-tensor": Static(kind="static", weight_bits=8, activation_bits=8, granularity="tensor"),
}
SMALLER: dict[str, Precision] = {
    **INTEGER,
    "fp16": Float(kind="float", bits=16),
    "weight-only-8-channel": WeightOnly(kind="weight_only", weight_bits=8, granularity="channel"),
    "weight-only-8-tensor": WeightOnly(kind="weight_only", weight_bits=8, granularity="tensor"),
    "weight-only-4-block": WeightOnly(kind="weight_only", weight_bits=4, granularity="block_32"),
}


def make_checkpoint(family: str, directory: Path) -> Path:
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    shape = {
        "bert": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128},
        "distilbert": {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128},
        "mobilebert": {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "embedding_size": 32,
            "intra_bottleneck_size": 32,
            "num_feedforward_networks": 2,
        },
        "albert": {
            "hidden_size": 64,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "embedding_size": 32,
        },
    }[family]
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        family, vocab_size=VOCABULARY, num_labels=LABELS, max_position_embeddings=TASK.max_length, **shape
    )
    model = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:  # wide enough that a wrong layer shows in the logits
                parameter.normal_(0, 0.1)
    return compressed(model, directory, MASK_CONSTANT)


def utterances(count: int, seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    ids = random.integers(1, VOCABULARY, (count, TASK.max_length)).astype(np.int32)
    mask = (np.arange(TASK.max_length) < random.integers(4, TASK.max_length + 1, (count, 1))).astype(np.int32)
    return {"input_ids": ids * mask, "attention_mask": mask}


def run_all(directory: Path, inputs: dict[str, Any]) -> Any:
    return logits_of(open_runtime(directory, threads=1), inputs)


def sha256(directory: Path) -> str:
    return hashlib.sha256((directory / graph.MODEL).read_bytes()).hexdigest()


def lowered(converted: Path, precision: Precision, out: Path) -> tuple[Path, dict[str, Any]]:
    out.mkdir(parents=True, exist_ok=True)
    return out, quantize.quantize(converted, precision, utterances(16, seed=1), TARGET, out)
