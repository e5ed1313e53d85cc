"""Tests of `accelerators/{onnx_cpu,onnx_providers}.py`, beside what ONNX Runtime says itself of placement and parts."""

import onnx
import pytest

from stages.accelerators import onnx_cpu, onnx_providers
from stages.accelerators.covering import cover
from stages.accelerators.graph import Graph
from stages.accelerators.partitions import partitions
from stages.targets.onnx_cpu import graph as onnx_graph
from tests.toys.operators import op, tensor, weight

pytestmark = pytest.mark.target
TABLES = {"ort_nnapi": "nnapi_supported_ops.md", "ort_coreml": "coreml_supported_mlprogram_ops.md"}


def judge(name, one):
    (provider,) = [each for each in onnx_providers.PROVIDERS if each.name == name]
    (said,) = provider.judge(Graph("g", (one,)))
    return "" if said is None else said.reason


@pytest.mark.parametrize("table", TABLES.values())
def test_parts_are_counted_as_the_tool_of_onnx_runtime_counts_them(converted, table):
    from onnxruntime.tools.mobile_helpers.usability_checker import check_partitioning

    class Checker:
        def is_op_supported(self, node):
            return f"{node.domain or 'ai.onnx'}:{node.op_type}" in onnx_providers.table(table)

    model = onnx.load(converted["bert"] / onnx_graph.MODEL)
    theirs = check_partitioning(model.graph, Checker(), require_fixed_input_sizes=False)
    (ours,) = onnx_cpu.graphs(converted["bert"])
    assert len(ours.operators) == theirs.num_nodes
    taken = [onnx_providers._qualified(one) in onnx_providers.table(table) for one in ours.operators]
    assert sum(taken) == theirs.num_supported_nodes
    assert len(partitions(ours, taken)) == theirs.num_partitions > 1


@pytest.mark.parametrize("name", ["dynamic-channel", "fp16", "weight-only-4-block"])
def test_every_node_ran_where_the_profile_says(artifacts, name):
    (found,) = onnx_cpu.graphs(artifacts[name])
    assert {one.options["provider"] for one in found.operators} == {"CPUExecutionProvider"}
    covered = cover("onnx-cpu", artifacts[name])
    assert (covered["values"]["ort_cpu_macs"], covered["values"]["ort_cpu_partitions"]) == (1, 1)


def test_every_multiply_accumulate_is_counted_whatever_multiplies(converted, artifacts):
    counted = {sum(one.macs for one in onnx_cpu.graphs(converted["bert"])[0].operators)}
    for name in ("dynamic-channel", "static-channel", "weight-only-4-block", "fp16"):
        counted.add(sum(one.macs for one in onnx_cpu.graphs(artifacts[name])[0].operators))
    assert len(counted) == 1
    per_layer = 4 * 64 * 64 + 2 * 64 * 128  # of a token
    assert counted.pop() > 32 * per_layer


def test_what_only_onnx_runtime_has_is_refused_by_phones_with_its_modules(artifacts):
    taken = cover("onnx-cpu", artifacts["dynamic-channel"])["accelerators"]["ort_nnapi"]
    worst = taken["refused"][0]
    assert worst["operator"] == "DynamicQuantizeMatMul"
    assert "bert.encoder.layer.0.attention.self.query" in worst["modules"]
    assert taken["macs"] < 0.001  # the head, which is too narrow to round


FLOAT = {"dtype": "float"}
X = tensor("x", "float", (1, 4, 8))


@pytest.mark.parametrize(
    ("provider", "one", "reason"),
    [
        ("ort_xnnpack", op("MatMul", X, weight(dtype="float")), ""),
        ("ort_xnnpack", op("MatMul", X, tensor("y", "float", (8, 8))), "two activations"),
        ("ort_xnnpack", op("MatMul", tensor("x", "float", (1, 2, 4, 8)), weight(dtype="float")), "4 and 2 axes"),
        ("ort_xnnpack", op("MatMul", tensor("x", "float16"), weight(dtype="float16")), "float16"),
        ("ort_xnnpack", op("Gemm", tensor("x", "float"), weight(), options={"alpha": 2.0}), "alpha"),
        ("ort_xnnpack", op("Softmax", X, options={"axis": 1}), "last axis"),
        ("ort_xnnpack", op("Add", X, X), "no such operator"),
        ("ort_nnapi", op("Add", X, X), ""),
        ("ort_nnapi", op("Add", tensor("x", "int64"), tensor("y", "int64")), "int64"),
        ("ort_nnapi", op("Add", tensor("x", "float", (1,) * 5), X), "four axes"),
        ("ort_nnapi", op("Squeeze", X, tensor("n", "int32")), "no constant"),
        ("ort_nnapi", op("Sum", X, X), "no such operator"),
        ("ort_coreml", op("Gather", X, tensor("i", "int32")), ""),
        ("ort_coreml", op("Add", tensor("x", "float", (1,) * 6), X), "five axes"),
        ("ort_coreml", op("Gemm", X, tensor("w", "float")), "weight is no constant"),
        ("ort_coreml", op("Slice", X, tensor("n", "int32")), "bounds are no constant"),
        ("ort_qnn", op("LayerNormalization", X), ""),
        ("ort_qnn", op("com.microsoft::MultiHeadAttention", X), "ONNX Runtime's own"),
        ("ort_cpu", op("Add", X, X, options={"provider": "Other"}), "ran on Other"),
    ],
)
def test_providers_take_and_refuse_minimal_nodes(provider, one, reason):
    said = judge(provider, one)
    assert (reason in said) if reason else said == ""
