"""What was trained on a target's grid is what its artifact stores; the checkpoint between them is an ordinary one."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from stages.compression import qat
from stages.core import artifact
from stages.core.errors import Unsupported
from stages.models.checkpoint import load_model, save
from stages.models.encode import logits
from stages.models.folded import norm_gains
from stages.schema.task import Task
from stages.schema.variant import Dynamic, OnnxCpu, Static, WeightOnly
from stages.targets import registry
from tests.toys.targets import coreml, tflite

TASK = Task(name="classify", max_length=16, sequence_lengths=[8, 16])
TARGETS = {
    "coreml-metal": coreml(),
    "onnx-cpu": OnnxCpu(name="onnx-cpu", opset=20),
    "tflite-nnapi": tflite(static_embedding_bits=8),
}
STATIC = Static(kind="static", weight_bits=8, activation_bits=8, granularity="tensor")
CASES = {
    "coreml-metal weight_only": (
        WeightOnly(kind="weight_only", weight_bits=4, granularity="block_32"),
        {"weight_bits": 4, "granularity": "block_32", "activation_bits": None},
    ),
    "onnx-cpu static": (STATIC, {"pairwise": True}),
    "tflite-nnapi static": (STATIC, {"norms_folded": True}),
    "tflite-nnapi dynamic": (
        Dynamic(kind="dynamic", weight_bits=4, granularity="channel"),
        {"weight_bits": 4, "granularity": "channel", "norms_folded": True},
    ),
}
MASK = (np.arange(16) < np.array([16, 6] * 4)[:, None]).astype(np.int32)
CALIBRATION = {
    "input_ids": np.random.default_rng(0).integers(5, 49, (8, 16), np.int32) * MASK,
    "attention_mask": MASK,
}


@pytest.fixture
def wide(make_model):
    """A model whose every weight is large enough for a target to round it, and is read by one operator."""
    return make_model("bert", hidden_size=64, intermediate_size=128)


def lowered(checkpoint, target, precision, root):
    """Take a checkpoint through a target as it is; returns what the artifact stores, dequantised."""
    artifact.write_json(checkpoint / "profile.json", {"mask_constant": 32.0})
    converted, out = root / "converted", root / "artifact"
    converted.mkdir()
    out.mkdir()
    registry.convert(target).convert(checkpoint, TASK, TARGETS[target], converted)
    registry.quantize(target).quantize(converted, precision, CALIBRATION, TARGETS[target], out)
    return registry.weights(target).weights(out)


def error(stored, wanted):
    """The largest difference of a weight to what is stored of it, in units of its largest value."""
    same = [value for value in stored.values() if value.shape == wanted.shape]
    return min(float(np.abs(value - wanted).max()) for value in same) / float(np.abs(wanted).max())


@pytest.mark.target
@pytest.mark.parametrize("case", CASES)
def test_the_artifact_stores_the_weights_that_were_trained(case, wide, tokenizer, examples, settings, tmp_path):
    target = case.split()[0]
    precision, changes = CASES[case]
    trained = qat.apply(wide, tokenizer, examples, settings("qat", **changes)).model
    save(trained, tokenizer, tmp_path)
    stored = lowered(tmp_path, target, precision, tmp_path)
    model = load_model(tmp_path)
    gains = norm_gains(model) if changes.get("norms_folded") else {}
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear) and layer.weight.numel() >= 1024:
            wanted = (layer.weight * gains.get(layer, 1)).detach().numpy()
            assert error(stored, wanted) < 1e-3, name
            assert error(stored, wanted + np.abs(wanted).max() / 127) > 5e-3, name


def test_training_on_the_grid_undoes_what_rounding_cost(make_model, tokenizer, examples, settings):
    wanted = logits(make_model("bert"), examples["validation"].encoded)

    def cost(**training):
        params = settings("qat", training, weight_bits=4, activation_bits=None)
        outcome = qat.apply(make_model("bert"), tokenizer, examples, params)
        return float(np.abs(logits(outcome.model, examples["validation"].encoded) - wanted).mean())

    assert cost(epochs=10.0, learning_rate=0.003) < 0.7 * cost(learning_rate=1e-12)


def test_the_notes_say_what_rounding_cost_before_training(make_model, tokenizer, examples, settings):
    outcome = qat.apply(make_model("bert"), tokenizer, examples, settings("qat"))
    names = {"validation_accuracy_before", "validation_accuracy_compressed", "validation_accuracy_recovered"}
    assert outcome.removed.keys() >= names
    assert [row.epoch for row in outcome.history][-1] == 1.0
    assert not outcome.model.training


def test_a_layer_behind_two_normalisations_cannot_lie_on_the_grids_of_both(make_model, tokenizer, examples, settings):
    with pytest.raises(Unsupported, match=r"layer '.*attention\.query' is used more than once.*shares no layers"):
        qat.apply(make_model("albert"), tokenizer, examples, settings("qat", norms_folded=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight_bits": 2}, "Input should be 4 or 8"),
        ({"activation_bits": 16}, "Input should be 8"),
        ({"granularity": "block_64"}, "'tensor', 'channel' or 'block_32'"),
        ({"pairwise": True, "norms_folded": True}, "no target rounds so"),
    ],
)
def test_a_grid_that_no_target_has_is_refused(changes, message, settings):
    with pytest.raises(ValidationError, match=message):
        settings("qat", **changes)
