"""Read how a model stores its weights: which initialisers are levels, scales and zero points of which."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from stages.core.errors import ArtifactError
from stages.targets.levels import Stored
from stages.targets.onnx_cpu import graph, integers
from stages.targets.onnx_cpu.storage import turned

INTEGERS = (np.int8, np.uint8)
Arrays = Mapping[str, Any]
"""Initialiser → its content."""


class Parts(NamedTuple):
    """What an integer weight is expanded by.

    Attributes:
        scale: initialiser that broadcasts to the weight, or, of 4 bits, has a number per block; '' where none is found.
        zero: initialiser of its zero point, '' where there is none.
        bits: of numbers that lie packed in blocks; 0 where they are stored one by one.
        width: of the matrix that packed ones stand for.
    """

    scale: str = ""
    zero: str = ""
    bits: int = 0
    width: int = 0


def weights(model: Any, arrays: Arrays, smallest: int = 0) -> Iterator[tuple[Stored, Parts]]:
    """Yield every matrix of so many elements or more that is stored in integers.

    Raises:
        ArtifactError: nothing reads one, or nothing scales it.
    """
    found, sideways = _parts(model, arrays), turned(model)
    zeros = {parts.zero for parts in found.values()}
    for name, value in arrays.items():
        if not _is_matrix(value) or name in zeros:
            continue
        if name not in found:
            raise ArtifactError(f"integer weight '{name}' is not used", next_step="run `dvc repro`")
        if value.size * (2 if found[name].bits == 4 else 1) < smallest:
            continue
        if found[name].scale not in arrays:
            raise ArtifactError(f"integer weight '{name}' has no scale", next_step="run `dvc repro`")
        yield read(name, found[name], arrays, sideways), found[name]


def read(name: str, parts: Parts, arrays: Arrays, sideways: Collection[str] = ()) -> Stored:
    """Read one that is expanded by certain initialisers; `sideways` are those that are stored [in, out]."""
    levels = arrays[name]
    if parts.bits:
        levels = integers.unpacked(levels, parts.width) if parts.bits == 4 else integers.centred(levels)

    def part(name: str) -> Any:
        found = arrays.get(name)
        return None if found is None else found.reshape((1,) * (levels.ndim - found.ndim) + found.shape)

    scale, zero = part(parts.scale), part(parts.zero)
    bits, block = parts.bits or 8 * levels.itemsize, integers.BLOCK if parts.bits else 0
    return Stored(name, levels, scale, zero, turned=name in sideways, bits=bits, block=block)


def _is_matrix(value: Any) -> bool:
    return value.dtype in INTEGERS and value.ndim >= 2


def packed(node: Any, levels: Any) -> Parts:
    """Return what an operator of `graph.PACKED` expands its levels by."""
    settings, zero = graph.attributes(node), "".join(node.input[3:4])
    return Parts(node.input[2], zero, settings.get("bits", 4), settings.get("K", 2 * levels.shape[-1]))


def lookup(node: Any, makers: Mapping[str, Any], arrays: Arrays) -> tuple[Any, str] | None:
    """Return the Gather or Slice of a compressed table whose result a node expands, and the table's scale, or None.

    A Cast expands half precision, with no scale; a Mul scales integers, by a constant or by what the same ids look up.
    """
    scaled = graph.changes_format(node, "Mul")
    cast = makers.get(node.input[0]) if scaled else node
    if cast is None or not graph.changes_format(cast, "Cast"):
        return None
    found = makers.get(cast.input[0])
    if found is None or graph.operator(found) not in {"Gather", "Slice"} or found.input[0] not in arrays:
        return None
    if (arrays[found.input[0]].dtype == np.float16) == scaled:
        return None
    rows = makers.get(node.input[1]) if scaled else None
    if rows is not None and not _is_same_lookup(rows, found):
        return None
    return found, "" if not scaled else str(node.input[1] if rows is None else rows.input[0])


def _is_same_lookup(rows: Any, found: Any) -> bool:
    """Whether two operators take the same rows, of their own tables."""
    pairs = ((graph.operator(one), list(one.input[1:]), graph.attributes(one)) for one in (rows, found))
    return next(pairs) == next(pairs)


def _parts(model: Any, arrays: Arrays) -> dict[str, Parts]:
    """Find what expands integers, as the first operator that reads them has it.

    Names do not lead there, since equal initialisers are merged.
    """
    makers = {output: node for node in model.graph.node for output in node.output}
    scales = dict(graph.expansions(model).values())
    for node in reversed(model.graph.node):
        found = lookup(node, makers, arrays)
        if found is not None:
            scales[found[0].input[0]] = found[1]
    parts: dict[str, Parts] = {}
    known = graph.views(model)
    for node in (node for node in model.graph.node if node.output[0] not in known):
        op = graph.operator(node)
        place = graph.PACKED.get(op, 1 if op in graph.INTEGER_PRODUCTS else None)
        for name in node.input if place is None else node.input[place : place + 1]:
            if name not in arrays or name in parts or not _is_matrix(arrays[name]):
                continue
            if op in graph.PACKED:
                parts[name] = packed(node, arrays[name])
            elif op in graph.INTEGER_PRODUCTS:
                parts[name] = Parts(*graph.integer_operands(node)[:2])
            else:
                parts[name] = Parts(scales.get(name, ""))
    halves = graph.halves(model)
    return {name: found._replace(scale=halves.get(found.scale, found.scale)) for name, found in parts.items()}
