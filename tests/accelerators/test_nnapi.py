"""Tests of `accelerators/{nnapi,nnapi_rules}.py`: every rule takes a minimal operator, and refuses what it must."""

from dataclasses import replace

import pytest

from stages.accelerators import nnapi
from stages.accelerators.graph import Graph
from stages.accelerators.nnapi import FL6, FL7, FL8, VERSIONS, doubted, refused
from stages.accelerators.nnapi_rules import RULES, allowed
from tests.toys.operators import op, tensor, weight

INT32 = weight("n", "INT32", (1,))
SECOND = {  # what stands behind the first input, where that is more than another of its like
    "ARG_MAX": (INT32,), "ARG_MIN": (INT32,), "EXPAND_DIMS": (INT32,), "GATHER": (tensor("i", "INT32"),),
    "FULLY_CONNECTED": (weight(), weight("b", shape=(8,))), "CONV_2D": (weight(), weight("b", shape=(8,))),
    "RESHAPE": (INT32,), "SLICE": (INT32, INT32), "SPLIT_V": (INT32, INT32), "TILE": (INT32,),
    "TOPK_V2": (INT32,), "TRANSPOSE": (INT32,),
}  # fmt: skip
FIRST = {  # what stands before the input whose type is asked for
    "SPLIT": INT32, "FILL": INT32, "SELECT": tensor("c", "BOOL"), "EMBEDDING_LOOKUP": tensor("ids", "INT32", (8,)),
}  # fmt: skip
RESULT = {"ARG_MAX": "INT32", "ARG_MIN": "INT32", "QUANTIZE": "INT8"}


def taken(kind):
    """An operator that the newest level takes."""
    rule = RULES[kind]
    types = allowed(rule.types, FL8) if rule.types is not None else {"FLOAT32"}
    dtype = "FLOAT32" if "FLOAT32" in types else min(types)
    x = tensor("x", dtype)
    inputs = (FIRST[kind], x) if kind in FIRST else (x, *SECOND.get(kind, (tensor("z", dtype),)))
    return op(kind, *inputs, dtype=RESULT.get(kind, dtype))


def changed(one, index, **what):
    inputs = tuple(replace(each, **what) if at == index else each for at, each in enumerate(one.inputs))
    return replace(one, inputs=inputs)


@pytest.mark.parametrize("kind", RULES)
def test_every_rule_takes_a_minimal_operator_from_its_level_on_and_no_newer_version(kind):
    one, rule = taken(kind), RULES[kind]
    assert refused(one, FL8) == ""
    assert "newer than the delegate's" in refused(replace(one, version=rule.version + 1), FL8)
    below = [level for level in VERSIONS if level < rule.since]
    assert all("takes it first" in refused(one, level) for level in below)


@pytest.mark.parametrize("kind", [kind for kind, rule in RULES.items() if rule.types is not None])
def test_every_rule_refuses_a_type_that_it_does_not_name(kind):
    one = changed(taken(kind), RULES[kind].typed, dtype="COMPLEX64")
    assert refused(one, FL8) == "its input is COMPLEX64"


@pytest.mark.parametrize("kind", [kind for kind, rule in RULES.items() if rule.rank])
def test_every_rule_with_a_rank_refuses_one_axis_more(kind):
    one, rule = taken(kind), RULES[kind]
    wide = (1,) * (rule.rank + 1)
    assert refused(changed(one, rule.ranked[-1], shape=wide), FL8) == f"an input has {rule.rank + 1} axes, more than 4"


FLOATS, FUSED = tensor("x"), {"fusedActivationFunction": 1}
INTEGERS = tensor("x", "INT32")
SCALAR = tensor("s", shape=())
QUANTIZED = tensor("x", "INT8", scales=1)


@pytest.mark.parametrize(
    ("one", "level", "reason"),
    [
        (op("ADD", INTEGERS, INTEGERS, dtype="INT32", options=FUSED), FL8, "fused activation on integers"),
        (op("CONCATENATION", FLOATS, FLOATS, options=FUSED), FL8, "fused activation"),
        (op("MUL", INTEGERS, INTEGERS, dtype="INT32"), 29, "INT32, which level 30 takes first"),
        (op("SUB", QUANTIZED, QUANTIZED, dtype="INT8"), 28, "which level 29 takes first"),
        (op("FULLY_CONNECTED", FLOATS, weight(), dtype="INT16"), FL8, "result is INT16"),
        (op("FULLY_CONNECTED", FLOATS, weight(dtype="INT8")), 28, "hybrid"),
        (op("FULLY_CONNECTED", QUANTIZED, weight(dtype="INT8"), dtype="INT8"), 28, "its input is INT8"),
        (op("FULLY_CONNECTED", FLOATS, weight(), options={"keepNumDims": True}), 29, "level 30 takes first"),
        (op("FULLY_CONNECTED", FLOATS, weight(dtype="INT4")), FL8, "no operand for int4, and the delegate fails"),
        (op("BATCH_MATMUL", FLOATS, tensor("z", "INT8")), FL8, "different types"),
        (op("BATCH_MATMUL", FLOATS, tensor("z", shape=(4, 8, 8))), FL8, "spread over each other"),
        (op("BATCH_MATMUL", tensor("x", shape=(8,)), tensor("z", shape=(8,))), FL8, "one axis"),
        (op("SOFTMAX", tensor("x", shape=(1, 8, 8))), 28, "neither 2 nor 4 axes"),
        (op("SOFTMAX", FLOATS, dtype="INT16"), FL8, "its result is INT16"),
        (op("RESHAPE", FLOATS, tensor("n", "INT32")), FL8, "shape is no constant"),
        (op("RESHAPE", INTEGERS, INT32, dtype="INT32"), 31, "INT32, which level FL6 takes first"),
        (op("RESHAPE", FLOATS, INT32, shape=(1,) * 5), FL8, "5 axes, more than 4"),
        (op("RESHAPE", FLOATS, shape=()), FL8, "scalar"),
        (op("TRANSPOSE", FLOATS, tensor("n", "INT32")), FL8, "order of axes is no constant"),
        (op("MEAN", FLOATS, INT32, shape=()), FL8, "scalar"),
        (op("CAST", INTEGERS, dtype="BOOL"), FL8, "its result is BOOL"),
        (op("RSQRT", QUANTIZED, dtype="INT8"), FL6, "which level FL7 takes first"),
        (op("EMBEDDING_LOOKUP", INTEGERS, weight(dtype="INT8")), FL8, "its input is INT8"),
        (op("MAXIMUM", FLOATS, SCALAR), FL8, "scalar operand is no constant"),
        (op("SELECT", tensor("c", "BOOL", (1, 1)), FLOATS, FLOATS), FL8, "another shape"),
        (op("GATHER", FLOATS, tensor("i", "INT64")), FL8, "positions is INT64"),
        (op("GATHER", FLOATS, tensor("i", "INT32", ())), FL8, "a scalar"),
        (op("PACK", FLOATS, FLOATS, options={"axis": -1}), 31, "the last axis"),
        (op("UNPACK", FLOATS, options={"axis": 1}), FL8, "the last axis"),
        (op("UNPACK", tensor("x", shape=(8,))), FL8, "not 2 to 4"),
        (op("PADV2", FLOATS, INT32, weight()), 28, "which level 29 takes first"),
        (op("PAD", QUANTIZED, INT32), 28, "no float"),
        (op("CONV_2D", FLOATS, weight()), FL8, "no bias"),
        (op("SLICE", FLOATS, weight("b", "INT64", (1,)), INT32), FL8, "begin is INT64"),
        (op("FILL", tensor("n", "INT32"), FLOATS), FL8, "shape is no constant"),
        (op("SPLIT", tensor("a", "INT32"), FLOATS), FL8, "axis is no constant of INT32"),
        (op("TOPK_V2", FLOATS, tensor("k", "INT32")), FL8, "k is no constant"),
        (op("QUANTIZE", FLOATS, dtype="INT8"), 29, "its result is INT8"),
        (op("TRANSPOSE", tensor("x", "INT64"), INT32, dtype="INT64"), FL8, "no operand for int64"),
        (op("GELU", FLOATS), FL8, "maps no such operator"),
    ],
)
def test_a_minimal_operator_that_the_delegate_refuses_is_refused_with_the_reason(one, level, reason):
    assert reason in refused(one, level)


def test_what_is_handed_over_without_a_form_for_it_is_a_doubt_and_no_refusal():
    per_channel = op("FULLY_CONNECTED", QUANTIZED, weight(dtype="INT8", scales=8), dtype="INT8")
    hybrid = op("FULLY_CONNECTED", FLOATS, weight(dtype="INT8", scales=1))
    assert "scale per channel" in doubted(per_channel)
    assert "no form" in doubted(hybrid)
    assert refused(per_channel, FL8) == refused(hybrid, FL8) == ""
    sound = op("FULLY_CONNECTED", QUANTIZED, weight(dtype="INT8", scales=1), dtype="INT8")
    assert doubted(sound) == doubted(op("ADD", FLOATS, FLOATS)) == ""
    judged = nnapi.LEVELS[-1].judge(Graph("g", (per_channel, hybrid, sound)))
    assert [one is not None and one.doubt for one in judged] == [True, True, False]


def test_a_level_takes_all_that_the_one_before_took():
    one = Graph("g", tuple(taken(kind) for kind in RULES))
    counts = [sum(said is None for said in level.judge(one)) for level in nnapi.LEVELS]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


@pytest.mark.parametrize(
    ("one", "cure"),
    [
        (op("GELU", FLOATS), "1.702"),
        (op("GELU", FLOATS, options={"approximate": True}), "tanh_gelu: factored"),
        (op("CAST", INTEGERS, dtype="BOOL"), "arithmetic mask"),
        (op("FULLY_CONNECTED", FLOATS, weight(dtype="INT4")), "granularity: tensor"),
        (op("EMBEDDING_LOOKUP", INTEGERS, weight(dtype="INT8")), "static_embedding_bits"),
        (op("DYNAMIC_UPDATE_SLICE", FLOATS, FLOATS, INT32), "cache_update: arithmetic"),
        (op("CONCATENATION", INTEGERS, INTEGERS, dtype="INT32"), "cache_update: arithmetic"),
        (op("MUL", tensor("x", shape=(1,) * 5), FLOATS), "at most four axes"),
    ],
)
def test_a_refusal_names_its_cure(one, cure):
    (said,) = nnapi.LEVELS[-1].judge(Graph("g", (one,)))
    assert cure in said.cure


def test_rsqrt_of_integers_is_taken_by_the_level_that_its_refusal_names():
    assert refused(op("RSQRT", QUANTIZED, dtype="INT8"), FL7) == ""
