"""Tests of `accelerators/tflite_micro.py`: what its interpreter refuses, and what it would answer wrongly."""

import pytest

from stages.accelerators.graph import Graph
from stages.accelerators.tflite_micro import MICRO
from tests.toys.operators import op, tensor, weight

X, Q = tensor("x"), tensor("x", "INT8", scales=1)


@pytest.mark.parametrize(
    ("one", "reason", "doubt"),
    [
        (op("EMBEDDING_LOOKUP", tensor("i", "INT32"), weight()), "", False),
        (op("BATCH_MATMUL", X, X), "", False),
        (op("FULLY_CONNECTED", X, weight()), "", False),
        (op("FULLY_CONNECTED", Q, weight(dtype="INT8", scales=1), dtype="INT8"), "", False),
        (op("GELU", X), "registers no such operator", False),
        (op("FULLY_CONNECTED", X, weight(dtype="INT8", scales=1)), "its kernel refuses", False),
        (op("FULLY_CONNECTED", Q, weight(dtype="INT8", scales=8), dtype="INT8"), "answers wrongly", True),
        (op("DEQUANTIZE", weight(dtype="INT8", scales=8)), "first scale alone", True),
    ],
)
def test_minimal_operators(one, reason, doubt):
    (said,) = MICRO.judge(Graph("g", (one,)))
    assert (said is None) if not reason else (reason in said.reason and said.doubt == doubt)
