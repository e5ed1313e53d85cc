"""Every family goes the whole way: in, distilled, masked, to all three targets, with its own weights and answers."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from stages.core import artifact
from stages.measure.matching import match
from stages.models import checkpoint, families, importing, mask, student
from stages.models.blocks import blocks
from stages.models.encode import Encoded, logits
from stages.schema.model import Shape
from stages.schema.task import Task
from stages.schema.variant import OnnxCpu
from stages.targets import conversion, registry
from stages.tasks.base import FORWARD, utterances
from stages.tasks.classify.model import HEAD, items
from tests.toys.classifiers import LABELS, LIMITS, published
from tests.toys.targets import coreml, tflite

TASK = Task(name="classify", max_length=16, sequence_lengths=[16])
TARGETS = {
    "onnx-cpu": OnnxCpu(name="onnx-cpu", opset=20),
    "tflite-nnapi": tflite(),
    "coreml-metal": coreml(),
}
SHAPE = Shape(kind="shape", layers=2, hidden_size=32, heads=4, ffn_size=48, activation="quick_gelu", pieces=None)


def texts(count=12):
    random = np.random.default_rng(3)
    present = np.arange(16) < random.integers(3, 17, count)[:, None]
    ids = np.where(present, random.integers(5, 49, present.shape), 0).astype(np.int32)
    return Encoded(ids, present.astype(np.int32), 0)


CAMEMBERT = """
from dataclasses import replace

from stages.models.families import roberta

FAMILY = replace(roberta.FAMILY, name="camembert")
"""


@pytest.mark.target
def test_every_family_goes_the_whole_way(family, tmp_path):
    go(family, TARGETS, tmp_path)


@pytest.mark.target
def test_one_file_is_all_that_another_family_takes(make_model, tokenizer, tmp_path, monkeypatch):
    assert "camembert" not in families.names()
    (tmp_path / "camembert.py").write_text(CAMEMBERT, encoding="utf-8")
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    go("camembert", ["onnx-cpu"], tmp_path)


def go(family, targets, tmp_path):
    """Import a model, distil, mask and convert it, and hold the targets to its weights and answers."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    facts, encoded = families.find(family), texts()
    outside = published(tmp_path / "outside", family)
    teacher, taken = importing.read(outside, LABELS, TASK.max_length, LIMITS, HEAD)
    model = student.build(teacher, SHAPE, seed=0)
    for parameter in model.parameters():  # wide enough that a wrong layer shows
        if parameter.ndim > 1:
            parameter.data += 0.1 * torch.randn_like(parameter)
    mask.neutralise_padding(model, taken.pad_token_id)
    constant = mask.calibrate(model, encoded, items, taken.pad_token_id).constant
    compressed = tmp_path / "compressed"
    compressed.mkdir()
    checkpoint.save(model, taken, compressed)
    artifact.write_json(compressed / "profile.json", {"mask_constant": constant})
    tensors, expected = load_file(compressed / "model.safetensors"), logits(model, encoded, batch_size=1)
    assert len(blocks(model)) == len({id(block.query) for block in blocks(model)})
    for role, end in facts.parts.items():
        assert any(name.endswith(end) for name in tensors), role
    for name in targets:
        converted = tmp_path / name
        converted.mkdir()
        registry.convert(name).convert(compressed, TASK, TARGETS[name], converted)
        runtime = registry.runtime(name).open_runtime(converted, threads=1)
        found = np.concatenate([runtime.run(FORWARD, one)["logits"] for one in utterances(vars(encoded))])
        error = float(np.abs(found - expected).max() / expected.std())
        weights = registry.weights(name).weights(converted)
        first = facts.first_position(model.config)
        matched = match(tensors, weights, positions=TASK.max_length, first=first)
        words = registry.lookup(name).looked_up(converted, np.arange(49, dtype=np.int32))
        print(f"{family} {name} {error:.1e} {max(one.error for one in matched.values())}")
        assert error < 1e-4, name
        assert {key for key, one in matched.items() if one.error} == set(), name
        assert conversion.vocabulary_error(tensors, words) == 0, name
    fused = json.loads((tmp_path / "onnx-cpu" / "fused.json").read_text(encoding="utf-8"))
    assert (fused["attention"], fused["softmax_left"]) == ((0, 2) if facts.rotary else (2, 0))
    assert (fused["positions"] >= 1) is ("positions" in facts.weights)
