"""Layers that see all of a text and layers that see a window of it, pooled over the text, on every target."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from stages.core import artifact
from stages.injecting import catalogue
from stages.injecting.inject import open_editor
from stages.measure.matching import match
from stages.measure.structure import Rounded
from stages.models import checkpoint, families
from stages.models.encode import Encoded, logits
from stages.schema.task import Task
from stages.schema.variant import OnnxCpu, Static
from stages.targets import registry
from stages.targets.tflite_nnapi import flatbuffer, structure
from tests.toys.targets import coreml, tflite

TASK = Task(name="classify", max_length=16, sequence_lengths=[8, 16])
TARGETS = {
    "onnx-cpu": OnnxCpu(name="onnx-cpu", opset=20),
    "tflite-nnapi": tflite(),
    "coreml-metal": coreml(),
}
CONSTANT = 64.0


@pytest.fixture(scope="module")
def model(make_model):
    """Four layers, every second with a window of two tokens on either side."""
    sizes = {"num_hidden_layers": 4, "global_attn_every_n_layers": 2, "local_attention": 4}
    return make_model("modernbert", classifier_pooling="mean", **sizes)


@pytest.fixture(scope="module", params=TARGETS)
def converted(request, model, tokenizer, tmp_path_factory):
    compressed, out = tmp_path_factory.mktemp("compressed"), tmp_path_factory.mktemp(request.param)
    checkpoint.save(model, tokenizer, compressed)
    artifact.write_json(compressed / "profile.json", {"mask_constant": CONSTANT})
    registry.convert(request.param).convert(compressed, TASK, TARGETS[request.param], out)
    return request.param, compressed, out


@pytest.mark.target
def test_every_length_has_the_answers_of_the_checkpoint(converted, model):
    target, compressed, out = converted
    present = np.arange(16) < np.array([3, 7, 8, 9, 14, 16])[:, None]
    ids = np.where(present, np.random.default_rng(3).integers(5, 49, present.shape), 0).astype(np.int32)
    expected = logits(model, Encoded(ids, present.astype(np.int32), 0), batch_size=1)
    session = registry.runtime(target).open_runtime(out, threads=1)
    found = []
    for row, mask in zip(ids, present.astype(np.int32), strict=True):
        width = 8 if mask.sum() <= 8 else 16
        found.append(session.run("forward", {"input_ids": row[None, :width], "attention_mask": mask[None, :width]}, {}))
    np.testing.assert_allclose(np.concatenate([one["logits"] for one in found]), expected, atol=1e-4 * expected.std())
    tensors = load_file(compressed / "model.safetensors")
    errors = {
        name: one.error for name, one in match(tensors, registry.weights(target).weights(out), positions=16).items()
    }
    assert set(errors.values()) == {0.0}
    assert {name.rpartition("layers.")[2] for name in errors} >= {"3.attn.Wqkv.weight", "3.mlp.Wi.weight"}


@pytest.mark.target
def test_faults_break_what_a_packed_matrix_has_and_no_other(converted, model):
    target, compressed, out = converted
    family, editor = families.find("modernbert"), open_editor(target, out)
    heads = model.config.num_attention_heads * family.packed
    tensors, random = load_file(compressed / "model.safetensors"), np.random.default_rng(0)
    subject = catalogue.Subject(editor, tensors, CONSTANT, heads, family.parts, random)
    for fault, part in ((catalogue.swapped_query_and_key, "key"), (catalogue.shifted_positions, "positions")):
        with pytest.raises(catalogue.NotApplicable, match=f"has no {part} weight"):
            fault(subject)
    catalogue.zeroed_head(subject)
    assert [row for row, value in enumerate(subject.part("query").value.reshape(96, 32)) if not value.any()] == [
        *range(8)
    ]


@pytest.mark.target
@pytest.mark.parametrize("converted", ["tflite-nnapi"], indirect=True)
def test_halves_that_are_joined_borrow_the_grid_of_the_whole(converted, tmp_path):
    """Turning puts one half of a head behind the other, in integers of one grid: a half may not fill it."""
    _, _, out = converted
    present = (np.arange(16) < np.array([5, 8, 12, 16])[:, None]).astype(np.int32)
    ids = np.random.default_rng(1).integers(5, 49, present.shape).astype(np.int32) * present
    calibration = {"input_ids": ids, "attention_mask": present}
    static = Static(kind="static", weight_bits=8, activation_bits=8, granularity="tensor")
    registry.quantize("tflite-nnapi").quantize(out, static, calibration, TARGETS["tflite-nnapi"], tmp_path)
    path = tmp_path / flatbuffer.MODEL
    assert parts(path) == {True}
    model = flatbuffer.read(path)
    graph = model.subgraphs[0]
    for name, operator in flatbuffer.operators_of(model, graph):
        if name == "CONCATENATION":
            whole = graph.tensors[operator.outputs[0]].quantization
            whole.scale = whole.scale * 4
    flatbuffer.write(model, path)
    assert False in parts(path)  # halves that are only cut out keep the grid of what they were cut from


def parts(path):
    """Whether what is joined borrows its grid."""
    values, seen, found = [*structure.read(path.parent).values()], set(), set()
    while values:
        value = values.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        below = [value.value] if isinstance(value, Rounded) else [*getattr(value, "inputs", {}).values()]
        if getattr(value, "op", "") == "CONCATENATION":
            found |= {part.borrowed for part in below if isinstance(part, Rounded)}
        values += below
    return found
