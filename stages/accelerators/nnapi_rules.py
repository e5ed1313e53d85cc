"""What NNAPI's delegate asks of each kind of TFLite operator: a table by feature level.

Source: `NNAPIDelegateKernel::Validate` of tflite/delegates/nnapi/nnapi_delegate.cc in google-ai-edge/LiteRT, at
revision 5c8a6d4b8063d83e0aaf1cc86b0da27570677daf, read 2026-12-01. An accelerator counts as named, as it does from
level 29 on when the delegate may not use the CPU, its default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stages.accelerators.graph import Operator, Tensor

FL6, FL7, FL8 = 1000006, 1000007, 1000008
"""Levels 6 to 8 as the delegate numbers them; those before are API levels of Android."""

F32, F16, INT32, INT64, INT8, UINT8, INT16, BOOL = (
    "FLOAT32",
    "FLOAT16",
    "INT32",
    "INT64",
    "INT8",
    "UINT8",
    "INT16",
    "BOOL",
)
FLOAT, QUANT8 = frozenset({F32}), frozenset({INT8, UINT8})
NUMBER = FLOAT | QUANT8
ANY = NUMBER | {INT32}
HALF = ANY | {F16}
Check = Callable[[Operator, int], str]
"""Says why an operator is refused at a level, or nothing."""
Types = frozenset[str] | Mapping[int, frozenset[str]]


def _from(**levels: frozenset[str]) -> dict[int, frozenset[str]]:
    """Read `v30=ANY` as: these types from level 30 on."""
    return {int(name[1:]) if name[1].isdigit() else {"fl6": FL6, "fl7": FL7}[name]: one for name, one in levels.items()}


@dataclass(frozen=True)
class Rule:
    """What `Validate` asks of one kind of operator.

    Attributes:
        version: the highest version of the operator's definition.
        types: of its input at `typed`: one set, or level → set from there on; None for any.
        since: the lowest level.
        rank: highest rank of the inputs at `ranked`, 0 for any.
        typed: position of the input whose type is asked for.
        ranked: positions of the inputs whose rank is asked for.
        checks: what else.
    """

    version: int
    types: Types | None = None
    since: int = 27
    rank: int = 0
    typed: int = 0
    ranked: tuple[int, ...] = (0, 1)
    checks: tuple[Check, ...] = ()


def allowed(types: Types, level: int) -> frozenset[str]:
    """Return the types that a level takes."""
    if isinstance(types, frozenset):
        return types
    return next((types[since] for since in sorted(types, reverse=True) if since <= level), frozenset())


def at(operator: Operator, index: int) -> Tensor | None:
    """Return an input, None where it is left out."""
    return operator.inputs[index] if index < len(operator.inputs) else None


def _no_activation(operator: Operator, level: int) -> str:  # noqa: ARG001 (every check has a level)
    return "has a fused activation" if operator.options.get("fusedActivationFunction") else ""


def _no_integer_activation(operator: Operator, level: int) -> str:
    return (
        _no_activation(operator, level) and "has a fused activation on integers"
        if (operator.first.dtype == INT32)
        else ""
    )


def _constant(index: int, what: str, dtype: str = "") -> Check:
    def check(operator: Operator, level: int) -> str:  # noqa: ARG001
        tensor = at(operator, index)
        if tensor is not None and not (tensor.constant and dtype in ("", tensor.dtype)):
            return f"its {what} is no constant{f' of {dtype}' if dtype else ''}"
        return ""

    return check


def _typed(index: int, types: frozenset[str], what: str) -> Check:
    def check(operator: Operator, level: int) -> str:  # noqa: ARG001
        tensor = at(operator, index)
        return f"its {what} is {tensor.dtype}" if tensor is not None and tensor.dtype not in types else ""

    return check


def _result(types: Types) -> Check:
    def check(operator: Operator, level: int) -> str:
        dtype = operator.outputs[0].dtype
        return "" if dtype in allowed(types, level) else f"its result is {dtype}"

    return check


def _no_scalar(operator: Operator, level: int) -> str:  # noqa: ARG001
    return "" if operator.outputs[0].rank else "its result is a scalar"


def _fully_connected(operator: Operator, level: int) -> str:
    weight = at(operator, 1)
    if operator.outputs[0].dtype == INT16:
        return "its result is INT16"
    if level < 29 and operator.first.dtype not in (F32, UINT8):
        return f"its input is {operator.first.dtype}, which level 29 has first"
    if level < 29 and operator.first.dtype == F32 and weight is not None and weight.dtype in QUANT8:
        return "a float input meets integer weights (hybrid), which level 29 takes first"
    return (
        "it keeps the input's axes, which level 30 takes first"
        if (level < 30 and operator.options.get("keepNumDims"))
        else ""
    )


def _batch_matmul(operator: Operator, level: int) -> str:  # noqa: ARG001
    left, right = operator.given[:2]
    if left.dtype != right.dtype:
        return "its operands have different types (hybrid)"
    if left.rank < 2:
        return "an operand has one axis"
    # A batch of 1 beside one of many is spread, which the delegate refuses.
    return "its batches are spread over each other" if (left.shape or ())[:-2] != (right.shape or ())[:-2] else ""


def _softmax(operator: Operator, level: int) -> str:
    return "its input has neither 2 nor 4 axes" if level < 29 and operator.first.rank not in (2, 4) else ""


def _reshape(operator: Operator, level: int) -> str:  # noqa: ARG001
    if operator.outputs[0].rank > 4:
        return f"its result has {operator.outputs[0].rank} axes, more than 4"
    return "its result is a scalar" if len(operator.given) == 1 and not operator.outputs[0].rank else ""


def _scalar_constants(operator: Operator, level: int) -> str:  # noqa: ARG001
    return (
        "a scalar operand is no constant"
        if any(not tensor.rank and not tensor.constant for tensor in operator.given[:2])
        else ""
    )


def _select(operator: Operator, level: int) -> str:  # noqa: ARG001
    condition, chosen = operator.given[:2]
    return "" if condition.shape == chosen.shape else "its condition has another shape than what it chooses"


def _gather(operator: Operator, level: int) -> str:  # noqa: ARG001
    positions = operator.given[1]
    return "" if positions.rank else "it takes one position, a scalar"


def _pack(operator: Operator, level: int) -> str:
    axis = operator.options.get("axis", 0)
    return (
        "it joins along the last axis, which feature level 6 takes first"
        if (level < FL6 and axis in (-1, operator.first.rank))
        else ""
    )


def _unpack(operator: Operator, level: int) -> str:  # noqa: ARG001
    rank, axis = operator.first.rank, operator.options.get("axis", 0)
    if not 1 < rank <= 4:
        return f"its input has {rank} axes, not 2 to 4"
    return "it divides the last axis" if axis in (-1, rank - 1) else ""


def _padding(operator: Operator, level: int) -> str:
    if level < 29 and len(operator.given) == 3:
        return "it names the value that it pads with, which level 29 takes first"
    return "its input is no float" if level < 29 and operator.first.dtype != F32 else ""


def _bias(operator: Operator, level: int) -> str:  # noqa: ARG001
    return "" if len(operator.given) == 3 else "it has no bias"


_UNARY = Rule(2, NUMBER)
_FLOAT_29 = Rule(1, FLOAT, 29)
_LOGICAL = Rule(1, frozenset({BOOL}), 29)
_COMPARED = Rule(2, ANY | {BOOL}, 29)
_EXTREME = Rule(3, ANY, 29, checks=(_scalar_constants,))
_REDUCED = Rule(1, FLOAT, 29, checks=(_no_scalar,))
_CASTS = {29: frozenset({F32, INT32, UINT8}), 30: ANY}
_ARGUMENT = Rule(2, HALF, 29, checks=(_typed(1, frozenset({INT32, INT64}), "axis"), _result(frozenset({INT32}))))

RULES: dict[str, Rule] = {
    "ABS": _FLOAT_29,
    "ADD": Rule(2, _from(v27=NUMBER, v30=ANY), rank=4, checks=(_no_integer_activation,)),
    "ARG_MAX": _ARGUMENT,
    "ARG_MIN": _ARGUMENT,
    "AVERAGE_POOL_2D": _UNARY,
    "BATCH_MATMUL": Rule(2, frozenset({F32, INT32, INT8}), FL6, 4, checks=(_batch_matmul,)),
    "CAST": Rule(1, _CASTS, 29, checks=(_result(_CASTS),)),
    "CONCATENATION": Rule(2, frozenset({F16, F32, UINT8, INT8}), rank=4, ranked=(0,), checks=(_no_activation,)),
    "CONV_2D": Rule(5, _from(v27=frozenset({F32, UINT8}), v29=HALF), checks=(_bias,)),
    "COS": _FLOAT_29,
    "DEPTHWISE_CONV_2D": Rule(3, _from(v27=frozenset({F32, UINT8}), v29=HALF)),
    "DEPTH_TO_SPACE": Rule(99, NUMBER),
    "DEQUANTIZE": Rule(2, _from(v27=frozenset({UINT8}), v29=QUANT8)),
    "DIV": Rule(1, FLOAT, 28, 4),
    "ELU": Rule(1, FLOAT, 30),
    "EMBEDDING_LOOKUP": Rule(1, FLOAT, typed=1),
    "EQUAL": _COMPARED,
    "EXP": _FLOAT_29,
    "EXPAND_DIMS": Rule(1, HALF, 29, checks=(_constant(1, "axis", INT32),)),
    "FILL": Rule(
        1,
        frozenset({F32, INT32, INT64}),
        30,
        typed=1,
        checks=(_constant(0, "shape"), _typed(0, frozenset({INT32, INT64}), "shape")),
    ),
    "FLOOR": Rule(1),
    "FULLY_CONNECTED": Rule(5, checks=(_fully_connected,)),
    "GATHER": Rule(2, HALF, 29, checks=(_typed(1, frozenset({INT32}), "positions"), _gather)),
    "GREATER": _COMPARED,
    "GREATER_EQUAL": _COMPARED,
    "HARD_SWISH": Rule(99, NUMBER),
    "L2_NORMALIZATION": Rule(2, checks=(_no_activation,)),
    "LEAKY_RELU": Rule(1, NUMBER, 29),
    "LESS": _COMPARED,
    "LESS_EQUAL": _COMPARED,
    "LOG": _FLOAT_29,
    "LOGICAL_AND": _LOGICAL,
    "LOGICAL_NOT": _LOGICAL,
    "LOGICAL_OR": _LOGICAL,
    "LOGISTIC": _UNARY,
    "LOG_SOFTMAX": _FLOAT_29,
    "MAXIMUM": _EXTREME,
    "MAX_POOL_2D": _UNARY,
    "MEAN": Rule(2, _from(v28=FLOAT, v29=NUMBER), 28, 4, ranked=(0,), checks=(_no_scalar,)),
    "MINIMUM": _EXTREME,
    "MIRROR_PAD": Rule(2, ANY, FL7),
    "MUL": Rule(3, _from(v27=NUMBER, v30=ANY), rank=4, checks=(_no_integer_activation,)),
    "NEG": Rule(2, frozenset({F32, INT32}), 29),
    "NOT_EQUAL": _COMPARED,
    "PACK": Rule(2, _from(v30=frozenset({F32, INT8}), fl6=ANY), 30, checks=(_pack,)),
    "PAD": Rule(2, NUMBER, 28, checks=(_padding,)),
    "PADV2": Rule(2, NUMBER, 28, checks=(_padding,)),
    "POW": _FLOAT_29,
    "PRELU": Rule(1, NUMBER, 29),
    "QUANTIZE": Rule(2, NUMBER, 29, checks=(_result(_from(v29=frozenset({UINT8}), v30=QUANT8)),)),
    "REDUCE_ANY": Rule(2, None, 29, checks=(_no_scalar,)),
    "REDUCE_MAX": Rule(2, NUMBER, 29),
    "REDUCE_MIN": Rule(2, NUMBER, 29),
    "REDUCE_PROD": _REDUCED,
    "RELU": _UNARY,
    "RELU6": _UNARY,
    "RELU_N1_TO_1": _UNARY,
    "RESHAPE": Rule(1, _from(v27=NUMBER, fl6=ANY), rank=4, ranked=(0,), checks=(_constant(1, "shape"), _reshape)),
    "REVERSE_V2": Rule(3, ANY, FL7),
    "RSQRT": Rule(2, _from(v29=FLOAT, fl7=NUMBER), 29),
    "SELECT": Rule(2, ANY, 29, typed=1, checks=(_select,)),
    "SIN": _FLOAT_29,
    "SLICE": Rule(2, ANY, 29, checks=(_typed(1, frozenset({INT32}), "begin"), _typed(2, frozenset({INT32}), "size"))),
    "SOFTMAX": Rule(2, NUMBER, rank=4, ranked=(0,), checks=(_result(NUMBER), _softmax)),
    "SPACE_TO_DEPTH": Rule(2, NUMBER),
    "SPLIT": Rule(
        3, _from(v29=frozenset({F32, UINT8, INT32}), v30=ANY), 29, typed=1, checks=(_constant(0, "axis", INT32),)
    ),
    "SPLIT_V": Rule(2, ANY, 30, checks=(_constant(1, "sizes", INT32), _constant(2, "axis", INT32))),
    "SQRT": _FLOAT_29,
    "SQUARED_DIFFERENCE": Rule(2, _from(v28=FLOAT, v29=frozenset({F32, UINT8}), v30=ANY), 28, 4),
    "SQUEEZE": Rule(1, None, 28),
    "STRIDED_SLICE": Rule(2, NUMBER, 28),
    "SUB": Rule(3, _from(v28=FLOAT, v29=NUMBER, v30=ANY), 28, 4, checks=(_no_integer_activation,)),
    "SUM": _REDUCED,
    "TANH": Rule(2, _from(v27=FLOAT, v29=NUMBER)),
    "TILE": Rule(1, ANY, 29, checks=(_typed(1, frozenset({INT32}), "multiples"),)),
    "TOPK_V2": Rule(2, ANY, 29, checks=(_constant(1, "k", INT32),)),
    "TRANSPOSE": Rule(2, None, 28, checks=(_constant(1, "order of axes"),)),
    "UNPACK": Rule(2, NUMBER, 30, checks=(_unpack,)),
}
"""Operator → what is asked of it; what has no rule is refused at every level. Recurrent layers, hash tables, sparse
weights and resizing are left out: none of them is in a transformer."""
