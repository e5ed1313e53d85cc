"""Read how a program stores a weight: which argument of a decompression is what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.coreml.ir import Operation
from stages.coreml.ops.constexpr import scattered
from stages.coreml.program import Program
from stages.coreml.values import TensorType
from stages.coreml.weight_bounds import literal
from stages.targets.levels import Stored

PARTS = {
    "const": {"levels": "val"},
    "constexpr_blockwise_shift_scale": {"levels": "data", "scale": "scale", "zero": "offset"},
    "constexpr_lut_to_dense": {"levels": "indices", "table": "lut"},
    "constexpr_lut_to_sparse": {"levels": "indices_nonzero_data", "table": "lut", "mask": "indices_mask"},
    "constexpr_sparse_to_dense": {"levels": "nonzero_data", "mask": "mask"},
}
"""Operation → which of its values the parts of a weight are."""


def assembled(name: str, values: Mapping[str, Any], bits: int) -> Stored:
    """Put the parts of a weight together; those of a sparse one, which lie side by side, to where its mask says."""
    scale, zero, table, mask = (values.get(part) for part in ("scale", "zero", "table", "mask"))
    levels = values["levels"] if mask is None else scattered(values["levels"], mask)
    return Stored(name, levels, scale, zero, table, mask, bits=bits)


def read(program: Program, operation: Operation) -> Stored:
    """Read what an operation of `PARTS` decompresses."""
    given = {**operation.attributes, **operation.inputs}
    found = {part: literal(given[key], program) for part, key in PARTS[operation.type].items() if key in given}
    kind = found["levels"].type
    assert isinstance(kind, TensorType)
    return assembled(operation.output, {part: one.value for part, one in found.items()}, kind.dtype.bits)
