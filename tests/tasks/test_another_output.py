"""A task whose output is another one than a classifier's is converted, quantised and run on every target as it is."""

import numpy as np
import pytest

from stages.core import artifact
from stages.measure.structure import compare
from stages.schema.task import Task
from stages.schema.variant import Dynamic, OnnxCpu, WeightOnly
from stages.targets import registry
from stages.targets.base import read_signature
from stages.tasks.base import FORWARD
from tests.toys.classifiers import compressed
from tests.toys.targets import coreml, tflite

pytestmark = pytest.mark.target
TASK = Task(name="tag", max_length=16, sequence_lengths=[8, 16])
TARGETS = {
    "onnx-cpu": OnnxCpu(name="onnx-cpu", opset=20),
    "tflite-nnapi": tflite(static_embedding_bits=8),
    "coreml-metal": coreml(),
}
INT8 = {
    name: Dynamic(kind="dynamic", weight_bits=8, granularity="channel")
    if name != "coreml-metal"
    else WeightOnly(kind="weight_only", weight_bits=8, granularity="channel")
    for name in TARGETS
}
CLASSES = 5


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    import torch
    from transformers import BertConfig, BertForTokenClassification

    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = BertConfig(vocab_size=60, max_position_embeddings=16, num_labels=CLASSES, initializer_range=0.3, **shape)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertForTokenClassification(config).eval()
    return compressed(model, tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def built(checkpoint, tmp_path_factory):
    """Target → converted model and artifact, made when it is asked for."""
    made = {}

    def build(target):
        if target not in made:
            made[target] = tuple(tmp_path_factory.mktemp(name) for name in ("converted", "artifact"))
            registry.convert(target).convert(checkpoint, TASK, TARGETS[target], made[target][0])
            registry.quantize(target).quantize(*made[target][:1], INT8[target], {}, TARGETS[target], made[target][1])
        return made[target]

    return build


def text(length):
    ids = np.random.default_rng(length).integers(5, 60, (1, length)).astype(np.int32)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def wanted(checkpoint, inputs):
    import torch
    from transformers import AutoModelForTokenClassification

    with torch.inference_mode():
        model = AutoModelForTokenClassification.from_pretrained(checkpoint)
        return model(**{name: torch.from_numpy(one.astype(np.int64)) for name, one in inputs.items()}).logits.numpy()


@pytest.mark.parametrize("target", TARGETS)
def test_every_token_is_answered_as_in_torch_and_no_padding_is(target, built, checkpoint):
    converted, quantised = built(target)
    assert read_signature(converted).task == "tag"
    for directory, bound in ((converted, 1e-5), (quantised, 0.1)):
        session = registry.runtime(target).open_runtime(directory, threads=1)
        for length in (3, 8, 13):
            inputs = text(length)
            found, expected = session.run(FORWARD, inputs)["logits"], wanted(checkpoint, inputs)
            assert found.shape == (1, length, CLASSES)
            assert np.abs(found - expected).max() < bound * np.ptp(expected)


@pytest.mark.parametrize("target", TARGETS)
def test_the_artifact_is_the_same_computation_and_holds_nothing_else(target, built):
    converted, quantised = built(target)
    assert registry.whole(target).strays(converted, quantised) == []
    structure = registry.structure(target)
    found = compare(structure.read(converted), structure.read(quantised))
    assert (found.differences, found.beyond) == ([], 0)
    rows = registry.lookup(target).looked_up(converted, np.arange(60, dtype=np.int32))
    assert rows.shape == (60, 32)


def test_on_onnx_attention_is_fused_and_every_token_kept(built):
    fused = artifact.read_json(built("onnx-cpu")[0] / "fused.json")
    assert (fused["attention"], fused["layers"], fused["first_token"]) == (2, 2, 0)
