"""Tests of `accelerators/{litert_gpu,litert_npu}.py`: an accepting and a rejecting graph of each rule."""

import pytest

from stages.accelerators.covering import told
from stages.accelerators.graph import Graph
from stages.accelerators.litert_gpu import GPUS
from stages.accelerators.litert_npu import QUALCOMM
from tests.toys.operators import op, tensor, weight

DELEGATE, COMPILED = GPUS
X, IDS = tensor("x"), tensor("ids", "INT32", shape=(8,))
AXES = weight("axes", "INT32", shape=(1,))


def said(accelerator, one):
    (found,) = accelerator.judge(Graph("g", (one,)))
    return "" if found is None else found.reason


@pytest.mark.parametrize(
    ("one", "delegate", "compiled"),
    [
        (op("FULLY_CONNECTED", X, weight()), "", ""),
        (op("FULLY_CONNECTED", X, weight(dtype="INT8", scales=8)), "", ""),
        (op("GELU", X), "", ""),
        (op("GELU", weight()), "is a constant", "is a constant"),
        (op("SUB", weight("a"), weight("b")), "both of its inputs", "both of its inputs"),
        (op("MEAN", X, AXES), "", ""),
        (op("MEAN", X, tensor("axes", "INT32")), "computes with INT32", "computes with INT32"),
        (op("EMBEDDING_LOOKUP", IDS, weight()), "no parser", ""),
        (op("EMBEDDING_LOOKUP", IDS, weight(dtype="INT16")), "no parser", "its table is INT16"),
        (op("CUMSUM", tensor("n", "INT32"), AXES, dtype="INT32"), "computes with INT32", "computes with INT32"),
        (op("SUB", tensor("n", "INT32"), weight(dtype="INT32"), dtype="INT32"), "computes with INT32", ""),
        (op("CAST", tensor("n", "INT32")), "", ""),
        (op("CAST", tensor("n", "INT64")), "computes with INT64", "computes with INT64"),
        (op("LESS", X, X, dtype="BOOL"), "", "computes with BOOL"),
        (op("GATHER_ND", X, weight(dtype="INT32")), "no parser", "no such operator"),
        (op("TRANSPOSE", tensor("x", shape=(1, 1, 1, 2, 2)), AXES), "four axes", "four axes"),
        (op("SLICE", X, AXES, AXES), "slices 2 axes", "slices 2 axes"),
        (op("SLICE", tensor("x", shape=(1, 4, 8)), AXES, AXES), "", ""),
        (op("STRIDED_SLICE", tensor("x", shape=(1, 4, 8)), AXES, AXES, AXES, options={"shrinkAxisMask": 1}),
         "drops an axis", "drops an axis"),
        (op("STRIDED_SLICE", tensor("x", shape=(1, 4, 8)), AXES, AXES, AXES, options={"newAxisMask": 1}),
         "makes axes", "makes axes"),
        (op("GATHER", X, weight("at", "INT32", shape=(2, 2))), "indices have more", "indices have more"),
        (op("SOFTMAX", X, options={"beta": 2.0}), "beta", "beta"),
        (op("ADD", tensor("x", shape=(4, 8)), tensor("y", shape=(1, 4, 8))), "different numbers of axes", ""),
        (op("ADD", tensor("x", shape=(3, 8)), tensor("y", shape=(1, 4, 8))), "different numbers", "different numbers"),
        (op("ADD", tensor("x", shape=(4, 8, 2)), tensor("y", shape=(1, 4, 8, 2))), "", ""),
        (op("ADD", X, weight("bias", shape=(8,))), "", ""),
        (op("PAD", X, weight("p", "INT32", shape=(2, 2))), "pads neither", "pads neither"),
        (op("SELECT_V2", tensor("c", shape=(1, 8)), X, weight("s", shape=(1, 1))), "", ""),
        (op("SELECT_V2", tensor("c", shape=(1, 8)), X, weight("s", shape=(8, 1))), "broadcast", "broadcast"),
        (op("FULLY_CONNECTED", tensor("x", shape=(1, 4, 8)), weight(), options={"keepNumDims": True}),
         "does not have", "does not have"),
    ],
)  # fmt: skip
def test_minimal_operators_on_the_delegate_and_on_compiled_models(one, delegate, compiled):
    for accelerator, reason in ((DELEGATE, delegate), (COMPILED, compiled)):
        found = said(accelerator, one)
        assert (reason in found) if reason else (found == ""), (accelerator.name, found)


def test_of_several_parts_the_delegate_takes_the_largest_alone_and_what_divides_them_is_refused():
    kinds = ("TANH", "GATHER_ND", "TANH", "EXP")
    graph = Graph("g", tuple(op(kind, tensor(f"t{at}"), out=f"t{at + 1}") for at, kind in enumerate(kinds)))
    found = told("tflite-nnapi", [graph])["accelerators"]
    assert (found["tflite_gpu"]["partitions"], found["tflite_gpu"]["operators"]) == (1, 0.5)
    assert [one["operator"] for one in found["tflite_gpu"]["refused"]] == ["GATHER_ND"]
    assert found["litert_gpu"]["partitions"] == 2


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (op("GELU", X), ""),
        (op("EMBEDDING_LOOKUP", IDS, weight()), ""),
        (op("STABLEHLO_SCATTER", X), "translates no such operator"),
        (op("FULLY_CONNECTED", X, weight(dtype="INT4", scales=8, blocks=True)), "a scale per block"),
    ],
)
def test_minimal_operators_on_a_qualcomm_npu(one, reason):
    assert reason in said(QUALCOMM, one) if reason else said(QUALCOMM, one) == ""
