"""Which TFLite operators LiteRT's CPU delegate, XNNPACK, takes; the rest runs on LiteRT's own kernels.

Source: tflite/delegates/xnnpack/xnnpack_delegate.cc in google-ai-edge/LiteRT, with the delegate's default options of
ai-edge-litert 2.3.0, beside whose own placement the tests hold every operator of every precision that is built here.
Operators that no model of ours has are left out, and are then said to be unknown here instead of being guessed.
"""

from __future__ import annotations

from stages.accelerators.graph import Accelerator, Graph, Operator, Refusal, Tensor

FLOAT, QUANTIZED = "FLOAT32", ("INT8", "UINT8")
CONSTANTS = ("FLOAT16", "INT8")
"""Types that a DEQUANTIZE of a constant may have: it is unpacked once, for the operators that read it."""
_FLOATS = """
ABS ADD AVERAGE_POOL_2D BATCH_MATMUL CEIL CONCATENATION CONV_2D COS DEPTHWISE_CONV_2D DIV ELU EXP FLOOR
FULLY_CONNECTED GELU HARD_SWISH LEAKY_RELU LOG LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL NEG PAD PRELU QUANTIZE
RELU RELU6 RELU_N1_TO_1 RESHAPE ROUND RSQRT SIN SLICE SOFTMAX SPLIT SQRT SQUARE SQUARED_DIFFERENCE STRIDED_SLICE SUB
SUM TANH TRANSPOSE
"""
FLOATS = frozenset(_FLOATS.split())
"""Operators with a kernel for float32."""
_INTEGERS = """
ADD CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEQUANTIZE ELU FULLY_CONNECTED LEAKY_RELU LOGISTIC MAXIMUM MEAN MINIMUM
MUL PAD QUANTIZE RELU RELU6 RESHAPE SLICE SPLIT STRIDED_SLICE SUB TANH TRANSPOSE
"""
INTEGERS = frozenset(_INTEGERS.split())
"""Operators with a kernel for quantised int8 and uint8."""
SCALED = {"ADD": (2.0**-10, 2.0**8), "SUB": (2.0**-10, 2.0**8)}
"""Operator → the range of an input's scale over the result's, the upper end excluded."""
WHOLE = "layers at the precision beside it: `target.static_normalisation_bits: 32` keeps normalisations in float"
CURES = {
    "CAST": "none needed: one operation on the mask of a text",
    "EMBEDDING_LOOKUP": "none needed: it copies rows",
    "RSQRT": WHOLE,
    "SQUARED_DIFFERENCE": WHOLE,
    "ADD": WHOLE,
    "SUB": WHOLE,
}


def _judge(graph: Graph) -> list[Refusal | None]:
    said = [_refused(one) for one in graph.operators]
    readers: dict[str, list[int]] = {}
    for index, one in enumerate(graph.operators):
        for tensor in one.given:
            readers.setdefault(tensor.name, []).append(index)
    for index, one in enumerate(graph.operators):
        # It unpacks the weights of what it takes by itself; what others read too is left to them.
        if _is_unpacking(one) and any(said[reader] for reader in readers.get(one.outputs[0].name, ())):
            said[index] = Refusal("an operator reads its result that XNNPACK does not take")
    return said


def _is_unpacking(one: Operator) -> bool:
    return one.kind == "DEQUANTIZE" and one.first.constant and one.first.dtype in CONSTANTS


def _refused(one: Operator) -> Refusal | None:
    if _is_unpacking(one):
        return None
    dtype = one.first.dtype
    if one.kind not in FLOATS | INTEGERS:
        return Refusal("XNNPACK is not known here to have such an operator", CURES.get(one.kind, ""))
    if one.kind == "QUANTIZE" and one.outputs[0].dtype not in QUANTIZED:
        return Refusal(f"XNNPACK makes no {one.outputs[0].dtype}", "activations of 8 bits")
    if dtype == FLOAT and one.kind in FLOATS:
        return None
    if dtype in QUANTIZED and one.kind in INTEGERS:
        return _out_of_scale(one)
    if dtype in QUANTIZED and one.kind == "BATCH_MATMUL":
        symmetric = one.given[1].zero == 0
        return None if symmetric else Refusal("the zero point of its second operand is not 0", "float attention")
    return Refusal(f"XNNPACK has no kernel of it for {dtype}", CURES.get(one.kind, "float at this place"))


def _out_of_scale(one: Operator) -> Refusal | None:
    low, high = SCALED.get(one.kind, (0.0, float("inf")))
    result: Tensor = one.outputs[0]
    ratios = [tensor.scale / result.scale for tensor in one.given if tensor.scale and result.scale]
    if all(low <= ratio < high for ratio in ratios):
        return None
    return Refusal("a scale of its inputs is too far from that of its result", CURES.get(one.kind, ""))


XNNPACK = Accelerator(
    "litert_xnnpack",
    "LiteRT, XNNPACK on the CPU",
    "rules",
    "LiteRT xnnpack_delegate.cc, ai-edge-litert 2.3.0",
    _judge,
)
