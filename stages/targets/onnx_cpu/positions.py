"""Fold what an embedding adds to its words, the same for every utterance, into one table.

Positions are looked up by 0, 1, 2, …, or from a later row on where the first rows are padding's (RoBERTa); row 0 of the
token types is added to every token.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

TABLE = "positions"


def fold(graph: Any, max_length: int) -> int:
    """Rewrite in place.

    Before: `Add(Add(words, Gather(types, zeros)), Gather(table, k … k + n - 1))`, in any order, with the operators that
    make and expand these indices. After: `Add(words, Slice(table + types[0], 0, n))`, of the table the
    `max_length` rows from k on.

    Returns:
        Lookups that are gone.
    """
    import onnx_ir as ir
    from onnx_ir.convenience import replace_all_uses_with

    for node in list(graph):
        if node.op_type != "Add" or _is_term(node):
            continue
        terms = list(_terms(node.outputs[0]))
        rows = {term: row for term in terms if (row := _same_row(term)) is not None}
        looked_up = {term: found for term in terms if (found := _in_order(term)) is not None}
        if len(looked_up) != 1:
            continue
        ((position, (table, length)),) = looked_up.items()
        folded = table[:max_length] + sum(rows.values(), start=np.zeros((), np.float32))
        start = _stored(graph, np.zeros(1, np.int64), "zero")
        slicing = ir.node("Slice", [_stored(graph, folded, TABLE), start, length])
        kept = [term for term in terms if term not in rows and term is not position]
        total = _sum(graph, node, [*kept, slicing.outputs[0]], [slicing])
        replace_all_uses_with(node.outputs[0], total)
        return 1 + len(rows)
    return 0


def _is_term(node: Any) -> bool:
    """Whether a sum is used by another sum only."""
    uses = list(node.outputs[0].uses())
    return len(uses) == 1 and uses[0].node.op_type == "Add"


def _terms(value: Any) -> Iterator[Any]:
    maker = value.producer()
    if maker is not None and maker.op_type == "Add" and len(list(value.uses())) <= 1:
        for term in maker.inputs:
            yield from _terms(term)
    else:
        yield value


def _lookup(value: Any) -> tuple[NDArray[np.float32], Any] | None:
    """Return a constant table of vectors and the ids that are looked up in it."""
    maker = value.producer()
    if maker is None or maker.op_type != "Gather" or maker.inputs[0].const_value is None:
        return None
    table = maker.inputs[0].const_value.numpy()
    return (table, maker.inputs[1]) if table.ndim == 2 and table.dtype == np.float32 else None


def _same_row(value: Any) -> NDArray[np.float32] | None:
    """Return the vector that a lookup gives for every token of every utterance."""
    found = _lookup(value)
    ids = None if found is None else _source(found[1])
    return found[0][ids.flat[0]] if found and ids is not None and (ids == ids.flat[0]).all() else None


def _source(ids: Any) -> NDArray[np.int64] | None:
    """Follow ids through what repeats or picks some of them."""
    while ids.const_value is None:
        maker = ids.producer()
        if maker is None or maker.op_type not in {"Expand", "GatherElements", "Slice"}:
            return None
        ids = maker.inputs[0]
    return np.asarray(ids.const_value.numpy())


def _in_order(value: Any) -> tuple[NDArray[np.float32], Any] | None:
    """Return the table from the first row that is read, and the number of rows, of a lookup by k, k + 1 and so on."""
    found = _lookup(value)
    maker = None if found is None else found[1].producer()
    if found is None or maker is None or maker.op_type != "Slice":
        return None
    counted, *limits = (None if item.const_value is None else item.const_value.numpy() for item in maker.inputs)
    if counted is None or counted.ndim != 2 or not counted.size:
        return None
    first = int(counted[0, 0])
    if not np.array_equal(counted, np.arange(first, first + counted.size)[None]):
        return None
    start, _, axis, step = limits if len(limits) == 4 else (None,) * 4
    return (found[0][first:], maker.inputs[2]) if (start, axis, step) == (0, 1, 1) else None


def _stored(graph: Any, value: NDArray[Any], name: str) -> Any:
    import onnx_ir as ir

    found = ir.Value(name=name, const_value=ir.tensor(value, name=name))
    graph.register_initializer(found)
    return found


def _sum(graph: Any, before: Any, terms: list[Any], made: list[Any]) -> Any:
    import onnx_ir as ir

    total = terms[0]
    for term in terms[1:]:
        made.append(ir.node("Add", [total, term]))
        total = made[-1].outputs[0]
    replaced = before.outputs[0]
    total.shape, total.type, total.name = replaced.shape, replaced.type, f"{replaced.name}_sum"
    graph.insert_before(before, made)
    return total
