"""Which TFLite operators phones' GPUs take: TFLite's delegate, and ML Drift, which LiteRT's CompiledModel runs on.

Sources, google-ai-edge/LiteRT, read 2026-12-01: tflite/delegates/gpu/common/model_builder.cc at 34ec5ba (which
operators have a parser; `GetOpsToReplace`: types, at most four axes, and of several parts the largest alone),
tflite/tools/versioning/gpu_compatibility.cc at 007226f (what each operator must look like), and the model builder of
ml_drift_delegate as it was near 95587137 (the same two questions for CompiledModel, which broadcasts between ranks and
takes lookups and 32-bit integers). All of it is advice: no GPU here ran anything that it could be held to, and TFLite's
own analyser says "compatible" of every graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from stages.accelerators.graph import Accelerator, Operator, Refusal, Tensor, one_by_one
from stages.accelerators.nnapi import CURES

_UNARY = """
ABS COS ELU EXP FLOOR GELU LOGISTIC LOG NEG RSQRT SIGN SIN SQRT SQUARE TANH
"""
UNARY = frozenset(_UNARY.split())
"""One input that is computed, and no constant."""
LOGICAL = frozenset({"EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "LOGICAL_AND", "NOT_EQUAL"})
"""Whose results may be truth values."""
BINARY = LOGICAL | {"DIV", "FLOOR_DIV", "FLOOR_MOD", "MAXIMUM", "MINIMUM", "POW", "SQUARED_DIFFERENCE", "SUB"}
REDUCTIONS = frozenset({"MEAN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "SUM"})
"""Over constant axes."""
SLICES = frozenset({"SLICE", "STRIDED_SLICE"})
_OTHERS = """
ADD ADD_N AVERAGE_POOL_2D BATCH_MATMUL CAST CONCATENATION CONV_2D CUMSUM DEPTHWISE_CONV_2D DEQUANTIZE FULLY_CONNECTED
GATHER HARD_SWISH LEAKY_RELU MAX_POOL_2D MUL PACK PAD PADV2 PRELU QUANTIZE RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 RESHAPE
RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR SELECT SELECT_V2 SOFTMAX SPACE_TO_DEPTH SPLIT SPLIT_V TILE TRANSPOSE
TRANSPOSE_CONV
"""
PARSED = UNARY | BINARY | REDUCTIONS | SLICES | frozenset(_OTHERS.split())
"""Operators that the delegate has a parser for and the compatibility file a rule (UNPACK has no rule)."""
COMPILED = PARSED | {"CEIL", "DYNAMIC_UPDATE_SLICE", "EMBEDDING_LOOKUP", "LOGICAL_NOT", "LOGICAL_OR", "ROUND"}
"""Those that ML Drift has."""
_WITH_INTEGERS = """
ABS ADD CAST CONCATENATION COS DIV DYNAMIC_UPDATE_SLICE EQUAL FLOOR_DIV FLOOR_MOD GATHER GREATER GREATER_EQUAL LESS
LESS_EQUAL LOGICAL_AND LOGICAL_NOT LOGICAL_OR MAXIMUM MINIMUM MUL NEG NOT_EQUAL PACK PAD PADV2 REDUCE_MAX REDUCE_MIN
REDUCE_PROD RESHAPE SELECT SELECT_V2 SIGN SIN SLICE STRIDED_SLICE SUB SUM TRANSPOSE
"""
WITH_INTEGERS = frozenset(_WITH_INTEGERS.split())
"""Operators that ML Drift computes with integers of 16 and 32 bits too."""
FLOATS = frozenset({"FLOAT32", "FLOAT16"})
QUANTIZED = frozenset({"INT8", "UINT8"})
ALSO = {
    "CAST": frozenset({"BOOL", "INT32"}),
    "GATHER": frozenset({"INT32"}),
    "SELECT": frozenset({"BOOL"}),
    "SELECT_V2": frozenset({"BOOL"}),
    "LOGICAL_AND": frozenset({"BOOL"}),
}
"""Operator → types of inputs that are computed, beside floats and 8-bit integers."""
CURED = CURES | {
    "EMBEDDING_LOOKUP": "none needed: it copies rows on the CPU, before the first part",
    "CAST": "an arithmetic mask of 32-bit integers, without truth values",
}
SOURCE = "LiteRT gpu_compatibility.cc 007226f, model_builder.cc 34ec5ba, read 2026-12-01"


def _refused(one: Operator) -> Refusal | None:
    if one.kind not in PARSED:
        return Refusal("the delegate has no parser for it", CURED.get(one.kind, ""))
    if any(tensor.rank >= 5 for tensor in one.tensors):
        return Refusal("a tensor has more than four axes", "at most four axes")
    inputs = FLOATS | QUANTIZED | ALSO.get(one.kind, frozenset())
    results = FLOATS | QUANTIZED | ({"BOOL"} if one.kind in LOGICAL else set()) | ALSO.get(one.kind, frozenset())
    if one.kind == "GATHER":
        results -= {"INT32"}
    for tensors, types in ((_computed(one), inputs), (one.outputs, results)):
        for tensor in tensors:
            if tensor.dtype not in types:
                return Refusal(f"it computes with {tensor.dtype}", CURED.get(one.kind, "float at this place"))
    return _incompatible(one, enhanced=False)


def _compiled(one: Operator) -> Refusal | None:
    if one.kind not in COMPILED:
        return Refusal("ML Drift has no such operator", CURED.get(one.kind, ""))
    if any(tensor.rank >= 5 for tensor in one.tensors):
        return Refusal("a tensor has more than four axes", "at most four axes")
    integers = {"INT16", "INT32"} if one.kind in WITH_INTEGERS else set()
    ids = {"INT32"} if one.kind == "EMBEDDING_LOOKUP" else set()
    for tensors, types in (
        (_computed(one), FLOATS | QUANTIZED | integers | ids),
        (one.outputs, FLOATS | QUANTIZED | integers),
    ):
        for tensor in tensors:
            if tensor.dtype not in types:
                return Refusal(f"it computes with {tensor.dtype}", CURED.get(one.kind, "float at this place"))
    return _incompatible(one, enhanced=True)


def _incompatible(one: Operator, *, enhanced: bool) -> Refusal | None:
    """Return what `CheckGpuDelegateCompatibility` has against an operator."""
    computed, constants = len(_computed(one)), sum(tensor.constant for tensor in one.given)
    reason = ""
    if one.kind in UNARY and (computed, constants) != (1, 0):
        reason = "its input is a constant"
    elif one.kind in BINARY and (computed, constants) not in ((2, 0), (1, 1)):
        reason = "both of its inputs are constants"
    elif one.kind in REDUCTIONS and (computed, constants) != (1, 1):
        reason = "its axes are computed"
    elif one.kind in SLICES and one.first.rank not in (3, 4):
        reason = f"it slices {one.first.rank} axes, not 3 or 4"
    elif one.kind == "STRIDED_SLICE" and any(one.options.get(f"{name}Mask") for name in ("ellipsis", "newAxis")):
        reason = "it makes axes while it slices"
    elif one.kind == "STRIDED_SLICE" and one.options.get("shrinkAxisMask"):
        reason = "it drops an axis while it slices"
    elif one.kind == "GATHER" and len(one.given) > 1 and one.given[1].rank != 1:
        reason = "its indices have more than one axis"
    elif one.kind == "SOFTMAX" and one.options.get("beta", 1.0) != 1:
        reason = "its beta is not 1"
    elif one.kind in ("ADD", "MUL") and not _broadcasts(*one.given[:2], enhanced=enhanced):
        return Refusal("its inputs have different numbers of axes", "equal numbers of axes: products that keep theirs")
    elif one.kind == "FULLY_CONNECTED" and one.options.get("keepNumDims"):
        if one.first.rank != one.outputs[0].rank:
            reason = "it keeps axes that its result does not have"
    elif one.kind == "EMBEDDING_LOOKUP" and one.given[1].dtype not in ("INT8", "INT4", "FLOAT32"):
        reason = f"its table is {one.given[1].dtype}"
    elif one.kind in ("PAD", "PADV2") and one.given[1].shape not in ((3, 2), (4, 2)):
        reason = "it pads neither 3 nor 4 axes"
    elif one.kind in ("SELECT", "SELECT_V2") and not _selects(one):
        reason = "what it selects from has to be broadcast"
    elif one.kind == "DEQUANTIZE" and one.first.dtype == "INT16":
        reason = "it expands 16-bit integers"
    return Refusal(reason, CURED.get(one.kind, "")) if reason else None


def _computed(one: Operator) -> list[Tensor]:
    return [tensor for tensor in one.given if not tensor.constant]


def _selects(one: Operator) -> bool:
    result = one.outputs[0].shape
    return all(tensor.shape == result or prod(tensor.shape or ()) == 1 for tensor in one.given[1:3])


def _broadcasts(first: Tensor, second: Tensor, *, enhanced: bool) -> bool:
    """Tell whether two shapes of different ranks go together on a GPU; those of one rank do."""
    long, short = sorted((first.shape or (), second.shape or ()), key=len, reverse=True)
    if len(long) == len(short) or len(short) <= 1:
        return True
    if enhanced:
        return _fits(long, short)
    if len(long) != 4:
        return False
    ones = long[0] == 1 and short == (1, 1)
    return (len(short) == 3 and long[0] == 1) or ones or (len(short) == 2 and (long[0], long[3]) == short)


def _fits(long: Sequence[int], short: Sequence[int]) -> bool:
    return all(a == b or 1 in (a, b) for a, b in zip(reversed(long), reversed(short), strict=False))


GPUS = (
    Accelerator(
        "tflite_gpu",
        "TFLite, GPU delegate",
        "advisory",
        f"{SOURCE}; of several parts the largest alone",
        one_by_one(_refused),
        one_part=True,
    ),
    Accelerator(
        "litert_gpu",
        "LiteRT CompiledModel, GPU",
        "advisory",
        f"{SOURCE}; ml_drift_delegate",
        one_by_one(_compiled),
    ),
)
