"""A variant compressed further than its parent and no better for it is named; noise names nobody."""

import numpy as np
import pytest

from stages.gating.dominated import dominated, parents
from stages.measure.metrics import compare
from stages.schema.variant import Dynamic, Float, Variant

PRECISIONS = {
    "fp32": Float(kind="float", bits=32),
    "fp16": Float(kind="float", bits=16),
    "int8": Dynamic(kind="dynamic", weight_bits=8, granularity="channel"),
}


def answered(right):
    """What an artifact answered that has some of 1,000 texts right; all of them want class 1."""
    logits, items = np.eye(2, dtype=np.float32)[right.astype(int)], len(right)
    return compare(logits, [logits], np.arange(items, dtype=np.int32), np.ones(items, np.int64)).record


ITEMS = np.arange(1000)
RIGHT, WORSE = answered(ITEMS % 10 != 0), answered(ITEMS % 5 != 0)


def variant(target, precision, compression="none"):
    return Variant(
        target=target, precision=precision, compression=compression, required=False, release_not_measured=False
    )


def entry(size=1e6, latency=None, spread=0.01):
    timed = {} if latency is None else {"latency_p50_ms": latency}
    intervals = {name: [value - spread, value + spread] for name, value in timed.items()}
    return {"metrics": {"size_bytes": size} | timed, "intervals": intervals}


BAD = entry(2e6, 1.0)
PARENT = entry(1e6, 0.5)


def test_the_parent_is_the_widest_float_of_the_same_target_and_compression():
    variants = {
        "a": variant("onnx-cpu", "fp32"),
        "b": variant("onnx-cpu", "int8"),
        "c": variant("coreml-metal", "fp16"),
        "d": variant("coreml-metal", "fp32"),
        "e": variant("coreml-metal", "int8"),
        "f": variant("onnx-cpu", "int8", "pruned"),
    }
    assert parents(variants, PRECISIONS) == {"b": "a", "c": "d", "e": "d"}


def test_bigger_slower_and_no_more_accurate_is_dominated_with_its_figures():
    reason = dominated("classify", BAD, WORSE, "onnx-cpu-fp32", PARENT, RIGHT)
    assert reason.startswith(
        "no better than 'onnx-cpu-fp32' on any axis measured here: 2.00 MB against 1.00, "
        "p50 1 [0.99, 1.01] ms against 0.5 [0.49, 0.51], accuracy -10.00 points ["
    )


@pytest.mark.parametrize(
    ("found", "parent"),
    [
        (entry(1e6, 1.0), PARENT),
        (entry(2e6, 0.505, spread=0.02), PARENT),
        (entry(2e6, 0.4), PARENT),
    ],
    ids=["no bigger", "slower within noise", "faster"],
)
def test_one_axis_that_is_no_worse_is_enough(found, parent):
    assert dominated("classify", found, WORSE, "parent", parent, RIGHT) == ""


def test_more_accuracy_than_noise_is_enough_and_less_than_noise_is_not():
    assert dominated("classify", BAD, RIGHT, "parent", PARENT, WORSE) == ""
    luckier = answered((ITEMS % 10 != 0) | (ITEMS == 0))
    assert dominated("classify", BAD, luckier, "parent", PARENT, RIGHT) != ""


def test_where_one_was_not_timed_the_other_axes_decide():
    assert "p50" not in dominated("classify", entry(2e6), WORSE, "parent", PARENT, RIGHT)
    assert dominated("classify", entry(2e6), WORSE, "parent", PARENT, RIGHT) != ""


def test_nothing_is_compared_with_a_variant_whose_size_is_not_known():
    unknown = {"metrics": {"latency_p50_ms": 0.1}, "intervals": {"latency_p50_ms": [0.1, 0.1]}}
    assert dominated("classify", BAD, WORSE, "onnx-cpu-fp32", unknown, RIGHT) == ""
    assert dominated("classify", unknown, WORSE, "onnx-cpu-fp32", PARENT, RIGHT) == ""
