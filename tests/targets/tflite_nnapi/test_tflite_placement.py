"""Tests of `accelerators/{tflite_nnapi,litert_xnnpack}.py`: predicted and actual placement of XNNPACK are the same."""

import pytest

from benchmarks.placement import compared
from stages.accelerators import litert_xnnpack
from stages.accelerators.covering import cover
from stages.accelerators.graph import Graph
from stages.schema.task import Task
from stages.targets.tflite_nnapi import decoder
from stages.tasks.generate.interface import CALLS
from tests.targets.tflite_models import PRECISIONS, lowered
from tests.toys.decoders import read, tiny_llama
from tests.toys.operators import op, tensor

pytestmark = pytest.mark.target


def as_predicted(directory):
    count, elsewhere, predicted, found = compared(directory)
    assert count > 50
    assert elsewhere == []
    return predicted == found


@pytest.mark.parametrize("name", PRECISIONS)
def test_every_operator_is_where_it_is_said_to_be(artifacts, name):
    assert as_predicted(artifacts[name])


@pytest.fixture(scope="module")
def decoder_converted(tmp_path_factory):
    root = tmp_path_factory.mktemp("decoder")
    config = tiny_llama(num_key_value_heads=2, head_dim=8, tie_word_embeddings=True)
    (root / "converted").mkdir()
    task = Task(name="generate", max_length=16, sequence_lengths=[6, 16])
    decoder.convert(read(config, root / "checkpoint")[1], CALLS, task, root / "converted")
    return root / "converted"


@pytest.mark.parametrize("name", ["float", "dynamic-channel", "float16", "weight-only-channel"])
def test_a_decoder_too(decoder_converted, tmp_path, name):
    assert as_predicted(lowered(decoder_converted, name, tmp_path / "artifact")[0])


@pytest.mark.parametrize("name", ["float", "static"])
def test_a_model_without_gelu_and_masks_is_one_part_for_nnapi(artifacts, name):
    found = cover("tflite-nnapi", artifacts[name])
    assert (found["values"]["nnapi_fl6_macs"], found["values"]["nnapi_fl6_partitions"]) == (1, 1)
    assert found["accelerators"]["nnapi_fl6"]["operators"] == 1
    # Attention comes with feature level 6.
    assert found["values"]["nnapi_31_partitions"] > 1


def test_integer_weights_under_float_activations_are_sure_of_nothing(artifacts):
    found = cover("tflite-nnapi", artifacts["dynamic-channel"])
    taken = found["accelerators"]["nnapi_fl8"]
    assert taken["macs"] == 1
    assert found["values"]["nnapi_fl8_macs"] < 0.1
    assert "bert/encoder/0/intermediate/dense" in taken["refused"][0]["modules"]


def test_every_multiply_accumulate_of_a_product_is_counted(artifacts):
    listed = cover("tflite-nnapi", artifacts["float"])["graphs"]["length_16"]
    products = {one["module"]: one["macs"] for one in listed if one["operator"] == "FULLY_CONNECTED"}
    assert products["bert/encoder/1/intermediate/dense"] == 16 * 64 * 256
    assert sum(one["macs"] for one in listed if one["operator"] == "BATCH_MATMUL") == 2 * 2 * 16 * 16 * 64


def test_attention_in_integers_is_taken_where_the_zero_point_of_the_second_operand_is_0():
    left, flat = (tensor(name, "INT8", (4, 8, 8), scales=1) for name in "xy")
    shifted = tensor("y", "INT8", (4, 8, 8), scales=1, zero=3)
    graph = Graph("g", tuple(op("BATCH_MATMUL", left, right, dtype="INT8") for right in (flat, shifted)))
    assert [one is None for one in litert_xnnpack.XNNPACK.judge(graph)] == [True, False]
