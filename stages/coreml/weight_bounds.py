"""How far a stored weight may lie from its source: what its storage can explain, element by element."""

# mypy: no-warn-return-any
# (arithmetic on arrays of any type is Any to mypy)
from __future__ import annotations

from typing import Any

import numpy as np

from stages.coreml.dtypes import Array
from stages.coreml.ir import Literal, Operation
from stages.coreml.ops.constexpr import _blocks
from stages.coreml.ops.quantisation import along_axis
from stages.coreml.program import Program
from stages.coreml.registry import convert

_HALF_ULP = 2.0**-11
"""Of fp16, relative."""
_SUBNORMAL = 2.0**-25
"""Half of fp16's smallest step."""


def allowed_error(operation: Operation, program: Program, source: Array, value: Array) -> Array:
    """Return the largest error each element may have.

    Args:
        operation: what makes the weight: a constant or a decompression.
        program: the program, for the decompression's arguments.
        source: fp32, in the weight's shape.
        value: the weight, decompressed.

    Returns:
        fp32, of the weight's shape. Floats: rounding to their type. Integers: half a step, plus the rounding of the
        scale. Tables: the distance to the nearest entry. Sparse: what was dropped may not exceed what was kept.
    """
    rounding = _rounding(source, value)
    arguments: dict[str, Any] = {
        key: literal(v, program).value for key, v in (*operation.attributes.items(), *operation.inputs.items())
    }
    kind = operation.type.removeprefix("constexpr_")
    if kind == "affine_dequantize":
        step = along_axis(value, arguments["scale"], int(convert(int, arguments["axis"])))
        return _half_step(step, source) * _saturated(arguments["quantized_data"]) + rounding
    if kind == "blockwise_shift_scale":
        step = _blocks(arguments["scale"], value.shape)
        saturated = _saturated(arguments["data"]) if "offset" in arguments else np.float32(1)
        return _half_step(step, source) * saturated + rounding
    if kind == "lut_to_dense":
        return _to_nearest(np.asarray(arguments["lut"]), source) + 2 * rounding
    if kind == "sparse_to_dense":
        return _dropped(operation, program, source, value) + 2 * rounding
    return rounding


def _rounding(source: Array, value: Array) -> Array:
    if value.dtype == np.float16:
        return np.abs(source) * np.float32(_HALF_ULP) + np.float32(_SUBNORMAL)
    return np.abs(source) * np.float32(2.0**-22)


def _half_step(step: Array, source: Array) -> Array:
    # The scale itself was rounded to fp16 after levels were chosen with the unrounded one.
    return np.abs(step.astype(np.float32)) * np.float32(0.5) + np.abs(source) * np.float32(2 * _HALF_ULP)


def _saturated(levels: Array) -> Array:
    """Rounding an offset may push the outermost levels past the type's range: one step instead of half."""
    return np.where((levels == levels.min()) | (levels == levels.max()), np.float32(2), np.float32(1))


def literal(value: Any, program: Program) -> Literal:
    """Return what an attribute or an argument of an operation is, followed through a constant's name."""
    found = value if isinstance(value, Literal) else value[0]
    return found if isinstance(found, Literal) else Literal(program.known.constants[found], program.known.types[found])


def _to_nearest(lut: Array, source: Array) -> Array:
    """Distance from each element to the nearest entry of its block's table."""
    if lut.ndim == 1:
        lut = lut.reshape((1,) * source.ndim + (-1, 1))
    if lut.shape[-1] != 1:
        return _to_nearest_vector(lut, source)
    nearest = np.empty_like(source)
    blocks = lut.shape[:-2]
    for block in np.ndindex(*blocks):
        where = tuple(
            slice(i * size // n, (i + 1) * size // n) for i, n, size in zip(block, blocks, source.shape, strict=True)
        )
        table = np.sort(lut[block].reshape(-1).astype(np.float32))
        part = source[where]
        after = np.clip(np.searchsorted(table, part), 1, table.size - 1)
        nearest[where] = np.minimum(np.abs(part - table[after - 1]), np.abs(part - table[after])) + _slack(table)
    return nearest


def _slack(table: Array) -> np.float32:
    """How far beyond the nearest entry an assignment may lie.

    Entries are rounded to fp16 after elements were assigned. For evenly spaced tables coremltools also computes the
    levels in fp16, which moves borders by up to a tenth of a step (measured).
    """
    largest = np.abs(table).max()
    gaps = np.diff(table)
    even = np.ptp(gaps) <= 2 * largest * _HALF_ULP if gaps.size else False
    return np.float32(max(2 * largest * _HALF_ULP, gaps.max() / 8 if even else 0))


def _to_nearest_vector(lut: Array, source: Array) -> Array:
    """For tables of vectors: the largest distance within a block's range, since vectors are chosen as a whole."""
    spread = np.float32(lut.astype(np.float32).max() - lut.astype(np.float32).min())
    return np.full(source.shape, spread, np.float32)


def _dropped(operation: Operation, program: Program, source: Array, value: Array) -> Array:
    """Zeroes may hide what is no larger than the smallest magnitude kept; kept values are held to their own storage."""
    kept = value != 0
    smallest = float(np.abs(source[kept]).min()) if kept.any() else float("inf")
    bound = np.where(kept, np.float32(0), np.float32(smallest))
    maker = _maker(operation, program)
    if maker is not None:
        # Quantised or palettised before it was spread: one step of the coarsest table or scale.
        inner = {k: literal(v, program).value for k, v in maker.inputs.items()}
        coarse = inner.get("scale", inner.get("lut"))
        step = np.abs(np.asarray(coarse, np.float32)).max() if "scale" in inner else _gap(np.asarray(coarse))
        bound = np.maximum(bound, np.where(kept, np.float32(0.625) * step + np.abs(source) * np.float32(2**-9), bound))
    return np.asarray(bound, np.float32)


def _gap(lut: Array) -> np.float32:
    entries = np.sort(lut.astype(np.float32).reshape(-1))
    return np.float32(np.diff(entries).max(initial=0))


def _maker(operation: Operation, program: Program) -> Operation | None:
    (argument,) = operation.inputs.get("nonzero_data", ("",))
    if isinstance(argument, Literal):
        return None
    for candidate in program.function.block.walk():
        if argument in [named.name for named in candidate.outputs]:
            return candidate
    return None
