"""Which TFLite operators LiteRT's compiler for Qualcomm's NPUs translates: advice, for nothing here has such a chip.

Source: `ConvertOp` and `ConvertTensor` in litert/vendors/qualcomm/compiler/qnn_compose_graph.cc, google-ai-edge/LiteRT
at 00120bd, read 2026-12-01. The plugin asks Qualcomm's own library about every operator after that, whose answers are
not public; newer plugins translate more. MediaTek's, Samsung's and Google's are other tables.
"""

from __future__ import annotations

from stages.accelerators.graph import Accelerator, Operator, Refusal, one_by_one
from stages.accelerators.nnapi import CURES

_KNOWN = """
ADD AVERAGE_POOL_2D BATCH_MATMUL CAST CONCATENATION CONV_2D COS CUMSUM DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV
DYNAMIC_UPDATE_SLICE EMBEDDING_LOOKUP FLOOR_DIV FULLY_CONNECTED GATHER GATHER_ND GELU GREATER HARD_SWISH LEAKY_RELU LESS
LOGICAL_AND LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL NOT_EQUAL PACK PAD PADV2 POW QUANTIZE RELU RELU6 RESHAPE
RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SELECT SELECT_V2 SIN SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUARE
SQUARED_DIFFERENCE STABLEHLO_COMPOSITE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV
"""
KNOWN = frozenset(_KNOWN.split())


def _refused(one: Operator) -> Refusal | None:
    if one.kind not in KNOWN:
        return Refusal("the compiler translates no such operator", CURES.get(one.kind, ""))
    if any(tensor.blocks for tensor in one.tensors):
        return Refusal("weights with a scale per block", "a scale per channel or per matrix")
    return None


QUALCOMM = Accelerator(
    "litert_qnn",
    "LiteRT CompiledModel, Qualcomm NPU",
    "advisory",
    "LiteRT qnn_compose_graph.cc, 00120bd, read 2026-12-01",
    one_by_one(_refused),
)
