"""Which nodes of an ONNX graph ONNX Runtime's execution providers take.

CPU: what a profiled session says (`measured`). XNNPACK: `IsOnnxNodeSupported` of math/matmul.cc, math/gemm.cc and
math/softmax.cc under onnxruntime/core/providers/xnnpack (revisions 06dd121, 05d54b3 and 240f69d, read 2026-12-01).
NNAPI and CoreML: the tables of operators that ONNX Runtime's own mobile checker reads, from the installed package, and
the notes beside them that graphs of ours meet; QNN: the table of onnxruntime-qnn's documentation (0131740, read
2026-12-01). Such tables are `advisory`: they lag their own sources (CoreML's lacks Gather, which gather_op_builder.cc
takes in ML programs), and a builder may look at more. NNAPI and QNN take no graph with open sizes: all is told as if
`onnxruntime.tools.make_dynamic_shape_fixed` had fixed them at the largest length.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from stages.accelerators.graph import Accelerator, Operator, Refusal, one_by_one

TABLES = "tools/mobile_helpers"
"""Folder of the tables in the package `onnxruntime`."""
BEYOND = {"coreml_supported_mlprogram_ops.md": ("ai.onnx:Gather",)}
"""Table → operators that its provider's own source takes and it leaves out."""
OWN = "an operator of ONNX Runtime's own, which fuses several for its CPU"
UNFUSED = (
    "a graph of plain ONNX operators: this one is fused for the CPU, phones have `tflite-nnapi` and `coreml-metal`"
)
ROUNDED = "QDQ form: plain operators between DequantizeLinear and QuantizeLinear, which bundles hold where it exists"
CONTRIB = ("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulNBits", "GatherBlockQuantized")
"""Operators on integers that stand for a rounded product or lookup; `graph.operator` leaves their domain out."""
_QNN = """
Abs Add And ArgMax ArgMin Asin Atan AveragePool BatchNormalization Cast Ceil Clip Concat Conv ConvTranspose Cos
CumSum DepthToSpace DequantizeLinear Div Einsum Elu Equal Exp Expand Flatten Floor Gather GatherElements GatherND
Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish
Identity InstanceNormalization Inverse IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax
LpNormalization MatMul Max MaxPool Mean Min Mod Mul Neg NonZero Not Or PRelu Pad Pow QuantizeLinear RMSNormalization
RandomNormalLike RandomUniformLike Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu
Reshape Resize RoiAlign RotaryEmbedding Round STFT ScatterElements ScatterND Sigmoid Sign Sin Slice Softmax Softplus
SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Unsqueeze Upsample Where
MatMulNBits com.microsoft::DequantizeLinear com.microsoft::FusedMatMul com.microsoft::Gelu
com.microsoft::QuantizeLinear com.microsoft::QuickGelu com.microsoft::RotaryEmbedding
com.microsoft::SimplifiedLayerNormalization
"""
QNN = frozenset(_QNN.split())
FLOATS = ("float", "float32")


@cache
def table(name: str) -> dict[str, str]:
    """Read a table of the installed ONNX Runtime: operator with its domain → the note beside it."""
    package = find_spec("onnxruntime")
    folder = Path(package.origin or "").parent / TABLES if package else Path()
    rows = [line.strip().split("|") for line in (folder / name).read_text(encoding="utf-8").splitlines()]
    found = {row[1]: row[2] for row in rows if len(row) == 4 and ":" in row[1]}
    return {**found, **dict.fromkeys(BEYOND.get(name, ()), "")}


def _qualified(one: Operator) -> str:
    domain, _, plain = one.kind.rpartition("::")
    return f"{domain or ('com.microsoft' if plain in CONTRIB else 'ai.onnx')}:{plain}"


def _unknown(one: Operator) -> Refusal:
    plain = one.kind.rpartition("::")[2]
    if plain in CONTRIB:
        return Refusal(f"{OWN}, on integers", ROUNDED)
    if not _qualified(one).startswith("ai.onnx:"):
        return Refusal(OWN, UNFUSED)
    if plain == "Sum":
        return Refusal("the provider has no such operator", "Add, once for each further operand")
    return Refusal("the provider has no such operator")


def _open(one: Operator, *positions: int) -> bool:
    """Whether an input at one of these positions is there and no constant."""
    return any(
        tensor is not None and not tensor.constant for index, tensor in enumerate(one.inputs) if index in positions
    )


def _cpu(one: Operator) -> Refusal | None:
    provider = one.options.get("provider")
    # What has no kernel of its own is inlined as others, and then the profile does not name it.
    return None if provider in ("CPUExecutionProvider", None) else Refusal(f"it ran on {provider}")


def _xnnpack(one: Operator) -> Refusal | None:
    if one.kind not in ("MatMul", "Gemm", "Softmax"):
        plain = _qualified(one).startswith("ai.onnx:")
        return Refusal("the provider has no such operator") if plain else Refusal(OWN, UNFUSED)
    if one.first.dtype not in FLOATS:
        return Refusal(f"its input is {one.first.dtype}", "fp32")
    rank = one.first.rank
    if one.kind == "Softmax":
        last = one.options.get("axis", -1) in (-1, rank - 1)
        return None if last else Refusal("it is not over the last axis")
    if _open(one, 1, 2):
        return Refusal("it multiplies two activations", "")
    right = one.given[1].rank
    if one.kind == "MatMul":
        fits = right <= 2 and rank in (right, right + 1)
        return None if fits else Refusal(f"its operands have {rank} and {right} axes", "at most three axes")
    scaled = one.options.get("alpha", 1.0) != 1.0 or one.options.get("beta", 1.0) != 1.0
    return Refusal("it is scaled by alpha or beta") if scaled or rank >= 3 else None


def _nnapi(one: Operator) -> Refusal | None:
    if _qualified(one) not in table("nnapi_supported_ops.md"):
        return _unknown(one)
    # Indices are read on the host where they are constant.
    wide = [tensor.dtype for tensor in one.tensors if not tensor.constant and tensor.dtype in ("int64", "float16")]
    if wide:
        return Refusal(f"the provider has no operand for {wide[0]}", "ids and masks as int32, weights in fp32")
    if any(tensor.rank > 4 for tensor in one.tensors):
        return Refusal("a tensor has more than four axes", "at most four axes")
    if one.kind in ("Squeeze", "Unsqueeze") and _open(one, 1):
        return Refusal("its axes are no constant")
    if one.kind == "Gather" and one.given[1].dtype not in ("int32", "int64") and _open(one, 1):
        return Refusal("its positions are neither int32 nor constant")
    return None


def _coreml(one: Operator) -> Refusal | None:
    if _qualified(one) not in table("coreml_supported_mlprogram_ops.md"):
        return _unknown(one)
    if any(tensor.rank > 5 for tensor in one.tensors):
        return Refusal("a tensor has more than five axes", "at most five axes")
    if one.kind == "Gemm" and _open(one, 1):
        return Refusal("its weight is no constant")
    return Refusal("its bounds are no constant") if one.kind == "Slice" and _open(one, 1, 2, 3, 4) else None


def _qnn(one: Operator) -> Refusal | None:
    return None if one.kind in QNN else _unknown(one)


SOURCES = "ONNX Runtime's own table of operators, from the installed package"
PROVIDERS = (
    Accelerator("ort_cpu", "ONNX Runtime, CPU", "measured", "a profiled session here", one_by_one(_cpu)),
    Accelerator(
        "ort_xnnpack",
        "ONNX Runtime, XNNPACK",
        "rules",
        "onnxruntime core/providers/xnnpack/math, read 2026-12-01",
        one_by_one(_xnnpack),
    ),
    Accelerator("ort_nnapi", "ONNX Runtime, NNAPI", "advisory", SOURCES, one_by_one(_nnapi)),
    Accelerator("ort_coreml", "ONNX Runtime, Core ML (ML program)", "advisory", SOURCES, one_by_one(_coreml)),
    Accelerator(
        "ort_qnn",
        "ONNX Runtime, Qualcomm QNN",
        "advisory",
        "onnxruntime-qnn QNN-ExecutionProvider.md, 0131740, read 2026-12-01",
        one_by_one(_qnn),
    ),
)
