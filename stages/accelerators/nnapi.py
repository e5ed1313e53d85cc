"""Which TFLite operators the NNAPI delegate hands to Android, by feature level, and where drivers may differ.

The delegate's rules are those of `nnapi_rules`. Beside them stands what it hands over although NNAPI's own
specification has no such operand (NeuralNetworksTypes.h, ANEURALNETWORKS_FULLY_CONNECTED: weights have the input's
type, and one scale). A driver may refuse it, and then the CPU has it, or compute it with the first scale alone.
"""

from __future__ import annotations

from functools import partial

from stages.accelerators.graph import Accelerator, Operator, Refusal, one_by_one
from stages.accelerators.nnapi_rules import (
    BOOL,
    F32,
    FL6,
    FL7,
    FL8,
    INT16,
    INT32,
    INT64,
    QUANT8,
    RULES,
    Types,
    allowed,
    at,
)

SOURCE = "LiteRT nnapi_delegate.cc, 5c8a6d4, read 2026-12-01"
VERSIONS = {
    27: ("nnapi_27", "NNAPI 1.0, Android 8.1"),
    28: ("nnapi_28", "NNAPI 1.1, Android 9"),
    29: ("nnapi_29", "NNAPI 1.2, Android 10"),
    30: ("nnapi_30", "NNAPI 1.3, Android 11"),
    31: ("nnapi_31", "NNAPI feature level 5, Android 12"),
    FL6: ("nnapi_fl6", "NNAPI feature level 6"),
    FL7: ("nnapi_fl7", "NNAPI feature level 7"),
    FL8: ("nnapi_fl8", "NNAPI feature level 8"),
}
"""Level → the accelerator's name and title. Levels 6 to 8 come to Android 12 and later with updates."""
NO_OPERAND = {INT64: "int64", INT16: "int16", "FLOAT64": "float64", "STRING": "string", "INT4": "int4", "INT2": "int2"}
NO_OPERAND |= {"BFLOAT16": "bfloat16", "UINT4": "uint4"}
"""Types that the delegate's `AddTensor` has no operand for."""
PACKED = ("INT4", "INT2", "UINT4")

CACHE = "new keys and values put among those kept by products and a sum: `target.cache_update: arithmetic`"
TANH_GELU = "its tanh form is written out, to the same numbers, by `target.tanh_gelu: factored`"
CURES = {
    "GELU": "compression `gelu_as_tanh`, or `gelu_as_sigmoid` (x·sigmoid(1.702x)) with fewer operators",
    "SELECT_V2": "an arithmetic mask: (mask − 1)·constant, added to the scores",
    "GATHER_ND": "an arithmetic mask: (mask − 1)·constant, added to the scores",
    "BROADCAST_TO": "fold grouped queries into rows in place of repeating keys and values",
    "CUMSUM": "bake positions in as a constant, or have the host give them",
    "STABLEHLO_SCATTER": CACHE,
    "DYNAMIC_UPDATE_SLICE": CACHE,
    "BATCH_MATMUL": "none below feature level 6: attention stays on the CPU there",
    "EMBEDDING_LOOKUP": "a float table: `target.static_embedding_bits: 32`, or a precision that leaves tables alone",
    "RSQRT": "normalisation in float: `target.static_normalisation_bits: 32`",
}
"""Operator → the rewrite after which it, or what takes its place, is handed over."""


def refused(operator: Operator, level: int) -> str:
    """Return why the delegate does not hand an operator over at a feature level, or an empty string."""
    rule = RULES.get(operator.kind)
    if rule is None:
        return "the delegate maps no such operator"
    if level < rule.since:
        return f"level {_called(rule.since)} takes it first"
    if operator.version > rule.version:
        return f"version {operator.version} of it is newer than the delegate's {rule.version}"
    tensor = at(operator, rule.typed)
    if rule.types is not None and tensor is not None and tensor.dtype not in allowed(rule.types, level):
        return f"its input is {tensor.dtype}" + _later(rule.types, tensor.dtype, level)
    for index in rule.ranked if rule.rank else ():
        one = at(operator, index)
        if one is not None and one.rank > rule.rank:
            return f"an input has {one.rank} axes, more than {rule.rank}"
    found = next((reason for check in rule.checks if (reason := check(operator, level))), "")
    unknown = next((one for one in operator.tensors if one.dtype in NO_OPERAND and operator.kind != "FILL"), None)
    if not found and unknown is not None:
        return f"NNAPI has no operand for {NO_OPERAND[unknown.dtype]}" + (
            ", and the delegate fails instead of refusing it" if unknown.dtype in PACKED else ""
        )
    return found


def doubted(operator: Operator) -> str:
    """Return why a driver may compute an operator otherwise that the delegate hands over, or an empty string."""
    weight = at(operator, 1)
    if operator.kind != "FULLY_CONNECTED" or weight is None:
        return ""
    if operator.first.dtype == F32 and weight.dtype in QUANT8:
        return "a float input meets integer weights, for which NNAPI's FULLY_CONNECTED has no form"
    return "its weights have a scale per channel, and NNAPI's FULLY_CONNECTED knows one" if weight.scales > 1 else ""


def _called(level: int) -> str:
    return f"FL{level - 1000000}" if level >= FL6 else str(level)


def _later(types: Types, dtype: str, level: int) -> str:
    if isinstance(types, frozenset):
        return ""
    later = [since for since in sorted(types) if since > level and dtype in types[since]]
    return f", which level {_called(later[0])} takes first" if later else ""


def _cure(operator: Operator, level: int) -> str:
    weight = at(operator, 1)
    if operator.kind == "FULLY_CONNECTED" and weight is not None and weight.dtype != F32:
        return "static int8 with one scale per matrix: precision `static_wi8_ai8` with `granularity: tensor`"
    if operator.kind == "GELU" and operator.options.get("approximate"):
        return TANH_GELU
    if operator.kind == "CONCATENATION" and operator.first.dtype == INT32:  # of the place that is written
        return CACHE
    if operator.kind == "CAST" and BOOL in (operator.first.dtype, operator.outputs[0].dtype):
        return CURES["SELECT_V2"]
    if any(tensor.rank > 4 for tensor in operator.tensors):
        return "at most four axes"
    if operator.kind == "BATCH_MATMUL" and level >= FL6:
        return "operands of one type, with equal batches"
    return CURES.get(operator.kind, "")


def _judged(level: int, operator: Operator) -> Refusal | None:
    if reason := refused(operator, level):
        return Refusal(reason, _cure(operator, level))
    return Refusal(reason, _cure(operator, level), doubt=True) if (reason := doubted(operator)) else None


LEVELS = tuple(
    Accelerator(name, title, "rules", SOURCE, one_by_one(partial(_judged, level)))
    for level, (name, title) in VERSIONS.items()
)
"""Every feature level, the lowest first."""
