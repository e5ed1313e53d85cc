"""Which TFLite operators tflite-micro's interpreter takes, and where its answers are wrong without an error.

Sources: tensorflow/tflite-micro, python/tflite_micro/python_ops_resolver.cc at revision 03e16b2, read 2026-12-01: the
operators that its Python interpreter registers, which is more than an application will; and `SINCE`, which it lacks and
newer releases run. That hybrid FULLY_CONNECTED is
refused, and that weights with a scale per channel are multiplied by the first one, was measured with tflite-micro
0.dev20261023182759.
"""

from __future__ import annotations

from stages.accelerators.graph import Accelerator, Operator, Refusal, one_by_one
from stages.accelerators.nnapi import CURES, TANH_GELU

_KNOWN = """
ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_TO_SPACE_ND BROADCAST_ARGS BROADCAST_TO
CALL_ONCE CAST CEIL CONCATENATION CONV_2D COS CUMSUM DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV ELU EQUAL EXP
EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND GREATER GREATER_EQUAL HARD_SWISH IF
L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX
MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD PADV2 PRELU QUANTIZE READ_VARIABLE REDUCE_MAX
RELU RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR ROUND RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX
SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM SVDF
TANH TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK VAR_HANDLE WHILE ZEROS_LIKE
"""
SINCE = frozenset({"BATCH_MATMUL", "DYNAMIC_UPDATE_SLICE", "EMBEDDING_LOOKUP"})
"""Operators that are not on that list, and that 0.dev20261023182759 finds when it opens files of ours."""
KNOWN = frozenset(_KNOWN.split()) | SINCE
TENSOR = "static int8 with one scale per matrix: a static precision with `granularity: tensor`"


def _refused(one: Operator) -> Refusal | None:
    if one.kind not in KNOWN:
        cure = TANH_GELU if one.options.get("approximate") else CURES.get(one.kind, "")
        return Refusal("the interpreter registers no such operator", cure)
    if one.kind == "FULLY_CONNECTED" and len(one.given) > 1:
        weight = one.given[1]
        if one.first.dtype == "FLOAT32" and weight.dtype != "FLOAT32":
            return Refusal("a float input meets integer weights, which its kernel refuses", TENSOR)
        if weight.scales > 1 and weight.dtype == "INT8":
            return Refusal("weights with a scale per channel: it answers wrongly, without an error", TENSOR, doubt=True)
    if one.kind == "DEQUANTIZE" and one.first.scales > 1:
        return Refusal(
            "it expands weights by their first scale alone: a wrong answer, without an error", TENSOR, doubt=True
        )
    return None


MICRO = Accelerator(
    "tflite_micro",
    "tflite-micro",
    "rules",
    "tflite-micro python_ops_resolver.cc, 03e16b2, read 2026-12-01",
    one_by_one(_refused),
)
