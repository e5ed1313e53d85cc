"""The first layer at fault is named in real artifacts of every target, at the precision that hides most."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest

from stages.core import artifact
from stages.measure.items import arrays
from stages.measure.metrics import compare
from stages.schema.task import Task
from stages.schema.variant import Dynamic, Float, OnnxCpu, Static
from stages.targets import divergence, registry
from stages.targets.divergence import Case
from stages.tasks.base import FORWARD
from tests.toys.classifiers import compressed
from tests.toys.targets import coreml, tflite

pytestmark = pytest.mark.target

TASK = Task(name="classify", max_length=16, sequence_lengths=[16])
TARGETS = {
    "coreml-metal": coreml(),
    "onnx-cpu": OnnxCpu(name="onnx-cpu", opset=20),
    "tflite-nnapi": tflite(),
}
PRECISIONS = {
    "coreml-metal-fp16": Float(kind="float", bits=16),
    "onnx-cpu-fp32": Float(kind="float", bits=32),
    "onnx-cpu-dynamic": Dynamic(kind="dynamic", weight_bits=8, granularity="channel"),
    "tflite-nnapi-fp32": Float(kind="float", bits=32),
    "tflite-nnapi-static": Static(kind="static", weight_bits=8, activation_bits=8, granularity="tensor"),
}
KEYS = sorted(PRECISIONS)
LAYER = "bert.encoder.layer.{}"


def negate_ffn(model):
    for parameter in model.bert.encoder.layer[1].output.dense.parameters():
        parameter.data.neg_()


def exchange_query_and_key(model):
    attention = model.bert.encoder.layer[0].attention.self
    attention.query, attention.key = attention.key, attention.query


def transpose(model):
    dense = model.bert.encoder.layer[1].attention.output.dense
    dense.weight.data = dense.weight.data.T.contiguous()


def exchange_rows(model):
    rows = model.bert.embeddings.word_embeddings.weight.data
    rows[[9, 12]] = rows[[12, 9]]


def replace_activation(model):
    from torch.nn import functional

    model.bert.encoder.layer[0].intermediate.intermediate_act_fn.forward = functional.relu


FAULTS = {
    LAYER.format(1) + ".output.dense": negate_ffn,
    LAYER.format(0) + ".attention.self.query": exchange_query_and_key,
    LAYER.format(1) + ".attention.output.dense": transpose,
    "bert.embeddings.word_embeddings": exchange_rows,
    LAYER.format(0) + ".intermediate.intermediate_act_fn": replace_activation,
}


def split(rows, seed=0):
    random = np.random.default_rng(seed)
    mask = (np.arange(TASK.max_length) < random.integers(8, 14, (rows, 1))).astype(np.int32)
    ids = random.integers(5, 49, mask.shape).astype(np.int32)
    ids[:, [1, 2]] = [9, 12]
    return {"input_ids": ids * mask, "attention_mask": mask}


def target_of(key):
    return key.rpartition("-")[0]


@pytest.fixture(scope="module")
def artifacts(make_model, tmp_path_factory):
    """A random BERT lowered to every one of `PRECISIONS`; about 20 s of CPU."""
    import torch

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("divergence")
    checkpoint = compressed(make_model("bert"), root / "checkpoint")
    for key, precision in PRECISIONS.items():
        target, converted = TARGETS[target_of(key)], root / f"converted-{target_of(key)}"
        if not converted.exists():
            converted.mkdir()
            registry.convert(target.name).convert(checkpoint, TASK, target, converted)
        (root / key).mkdir()
        report = registry.quantize(target.name).quantize(converted, precision, split(16), target, root / key)
        artifact.write_json(root / key / "quantization.json", report)
    return root


def tensors(artifacts, key, inputs):
    return list(registry.intermediates(target_of(key)).intermediates(artifacts / key, inputs))


@pytest.mark.parametrize("key", KEYS)
def test_making_every_tensor_visible_does_not_change_the_answer(artifacts, key):
    runtime = registry.runtime(target_of(key)).open_runtime(artifacts / key, threads=1)
    for row in range(4):
        inputs = {name: values[row : row + 1] for name, values in split(4, seed=7).items()}
        logits, found = runtime.run(FORWARD, inputs)["logits"], tensors(artifacts, key, inputs)
        assert len(found) > 30
        assert all(value.dtype == np.float32 for _, _, value in found)
        np.testing.assert_allclose(found[-1][2].reshape(logits.shape), logits, atol=1e-5 * np.abs(logits).max())


@pytest.mark.parametrize("key", KEYS)
def test_a_sound_artifact_stays_in_its_bands_and_each_fault_is_named(artifacts, key, make_model):
    from stages.models.divergence import follow
    from stages.models.trail import Tensor

    inputs = {name: values[:1] for name, values in split(1, seed=3).items()}
    found = [Tensor(*item) for item in tensors(artifacts, key, inputs)]
    bands = divergence.bands_of(artifact.read_json(artifacts / key / "quantization.json")["asked"])
    sound = make_model("bert")
    assert follow(sound, inputs, found, bands).divergence is None
    for module, damage in FAULTS.items():
        # The artifact is sound and what it is compared with is not, which is the same difference.
        model = copy.deepcopy(sound)
        damage(model)
        named = follow(model, inputs, found, bands).divergence
        if "static" in key and damage is replace_activation:
            assert named is None  # a ReLU differs from a GELU by less than int8 activations may
            continue
        assert named is not None, module
        assert named.module == module
        assert named.before is None or named.before.within


@pytest.fixture
def case(artifacts, make_model, tmp_path):
    """An ONNX artifact beside a checkpoint with one layer negated, its third utterance furthest off."""
    model = make_model("bert")
    negate_ffn(model)
    logits = np.zeros((4, 4), np.float32)
    outputs = logits + np.array([[0.1], [0.2], [9.0], [0.3]], np.float32)
    for name in ("reference", "parity"):
        (tmp_path / name).mkdir()
    artifact.write_arrays(tmp_path / "reference/probe.npz", {**split(4), "logits": logits})
    record = compare(logits, [outputs], np.arange(4, dtype=np.int32), np.full(4, -1)).record
    artifact.write_arrays(tmp_path / "parity/items.npz", arrays({"probe": record}))
    checkpoint = compressed(model, tmp_path / "checkpoint")
    return Case("onnx-cpu", artifacts / "onnx-cpu-fp32", checkpoint, tmp_path / "reference", tmp_path / "parity")


def test_the_worst_utterances_are_followed_with_padding_and_without(case):
    found = list(divergence.worst_inputs(case))
    size = int(split(4)["attention_mask"][2].sum())
    assert [(origin["row"], origin["length"]) for origin, _ in found[:2]] == [(2, size), (2, 16)]
    assert [origin["row"] for origin, _ in found[2:]] == [3, 3]
    assert all(inputs["input_ids"].shape == (1, origin["length"]) for origin, inputs in found)


def test_failing_artifacts_are_located_in_one_child_that_may_break(case, tmp_path):
    broken, unreadable = tmp_path / "a-broken", tmp_path / "b-unreadable"
    for directory in (broken, unreadable):
        directory.mkdir()
        for file in Path(case.artifact).iterdir():
            (directory / file.name).write_bytes(file.read_bytes())
    (broken / "quantization.json").write_text("{}", encoding="utf-8")
    (unreadable / "model.onnx").write_bytes(b"nothing")
    cases = {
        "c-negated": case,
        "a-broken": Case(**{**vars(case), "artifact": broken}),
        "b-unreadable": Case(**{**vars(case), "artifact": unreadable}),
    }
    found = divergence.locate(cases)
    assert (
        found["a-broken"]["conclusion"] == "first divergence not located: the process ended with 1: KeyError: 'asked'"
    )
    assert found["b-unreadable"]["conclusion"].startswith("first divergence not located: cannot read ONNX model")
    negated = found["c-negated"]
    assert negated["module"] == "bert.encoder.layer.1.output.dense"
    assert negated["conclusion"].startswith("first divergence: bert.encoder.layer.1.output.dense (")
    assert negated["before"]["error"] < 1e-4 < negated["error"]
    json.dumps(negated, allow_nan=False)


def test_an_artifact_without_a_layer_at_fault_is_said_to_have_none(case, artifacts):
    found = divergence.examine(Case(**{**vars(case), "checkpoint": artifacts / "checkpoint"}))
    assert found.keys() == {"conclusion"}
    assert found["conclusion"].startswith("no layer leaves its band on the 2 worst utterances (closest: ")
    assert found["conclusion"].endswith("see the comparison of weights")
