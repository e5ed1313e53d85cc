"""What is said of an artifact's inputs and outputs has its own names, on each target."""

import pytest

from stages.targets.base import read_signature
from stages.targets.onnx_cpu import graph
from stages.targets.tflite_nnapi import entries
from stages.tasks.generate.forms import WORDS
from tests.targets.onnx_cpu.test_onnx_shared_table import written

ROOM = 96


def test_a_graphs_inputs_and_outputs_are_called_as_is_said(tmp_path):
    converted = written(tmp_path / "converted")
    model = graph.load(converted / graph.MODEL)
    inputs, outputs = WORDS.interface("onnx-cpu", ROOM)
    (call,) = read_signature(converted).calls
    states = {tensor.name for tensor in call.states}
    assert states == {"past_key_values.0.key", "past_key_values.0.value"}
    for item in model.graph.input:
        assert item.name.replace(".0.", ".L.").removesuffix(".value") in inputs
    for item in model.graph.output:
        assert item.name.replace(".0.", ".L.").removesuffix(".value") in outputs


@pytest.mark.parametrize(
    ("target", "names", "foreign"),
    [
        ("tflite-nnapi", (entries.TOKENS, entries.PLACES, "kv_cache_k_L"), "past_key_values"),
        ("coreml-metal", ("input_ids", "position", "key_cache_L", "value_cache_L"), "past_key_values"),
        ("onnx-cpu", ("input_ids", graph.PAST_VALUES), "position"),
    ],
)
def test_each_target_has_words_of_its_own_and_says_its_room(target, names, foreign):
    inputs, outputs = WORDS.interface(target, ROOM)
    assert all(name in inputs for name in names)
    assert foreign not in inputs
    assert "logits" in outputs
    assert (str(ROOM) in inputs) == (target != "onnx-cpu")
