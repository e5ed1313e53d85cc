"""Tests of `accelerators/{coreml_metal,neural_engine}.py`: shapes and products of a program, and the advice on them."""

import pytest

from stages.accelerators import coreml_metal, neural_engine
from stages.accelerators.covering import cover
from stages.accelerators.graph import Graph
from tests.toys.operators import op, tensor, weight

pytestmark = pytest.mark.target


@pytest.mark.parametrize("name", ["fp16", "wi8", "pal4s50"])
def test_every_product_of_a_half_precision_program_is_one_for_the_neural_engine(builds, name):
    found = cover("coreml-metal", builds.artifact / name)
    assert found["values"]["neural_engine_macs"] == found["values"]["metal_gpu_macs"] == 1
    assert found["values"]["neural_engine_partitions"] > 1  # index arithmetic of positions and masks
    assert found["accelerators"]["neural_engine"]["basis"] == "advisory"


def test_a_single_precision_program_is_none_for_it_and_the_cure_is_named(builds):
    taken = cover("coreml-metal", builds.artifact / "fp32")["accelerators"]["neural_engine"]
    assert taken["macs"] == 0
    assert (taken["refused"][0]["operator"], taken["refused"][0]["cure"]) == ("linear", "precision `fp16`")
    assert any("attention_self_query" in module for module in taken["refused"][0]["modules"])


def test_products_are_counted_at_the_length_that_ran(builds):
    (graph,) = coreml_metal.graphs(builds.artifact / "fp16")
    assert graph.name == "length_8"
    products = [one for one in graph.operators if one.kind == "linear"]
    assert {one.outputs[0].shape[1] for one in products if one.outputs[0].rank == 3} == {8}
    assert all(one.macs == one.outputs[0].size * one.inputs[0].shape[-1] > 0 for one in products)


X = tensor("x", "fp16")


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (op("linear", X, weight(dtype="fp16"), dtype="fp16"), ""),
        (op("linear", tensor("x", "fp32"), weight(dtype="fp32"), dtype="fp32"), "float32"),
        (op("cast", tensor("x", "fp32"), dtype="fp16"), ""),
        (op("gather", weight(dtype="fp16"), tensor("i", "int32"), dtype="fp16"), "lookups"),
        (op("add", tensor("x", "int32"), tensor("y", "int32"), dtype="int32"), "integers"),
        (op("lstm", X, dtype="fp16"), "no report"),
        (op("add", X, X, dtype="fp16", options={"ranged": True}), "range of shapes"),
        (op("add", tensor("x", "fp16", (1,) * 6), X, dtype="fp16"), "five axes"),
        (op("linear", X, weight(dtype="fp16"), dtype="fp16", shape=(1, 20000)), "16,384"),
    ],
)
def test_advice_on_minimal_operations(one, reason):
    (said,) = neural_engine.PROCESSORS[0].judge(Graph("g", (one,)))
    assert (said is not None and reason in said.reason) if reason else said is None
