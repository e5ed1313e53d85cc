"""Compute only the first token's row after the last point where other tokens matter to it.

A classifier reads the first token. After the last layer's keys and values no other token has a part in its logits:
that layer's query, output and feed-forward products, of every token but one, are work without effect. The algebra is
exact, since every operator here treats tokens one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

ROWWISE = {"Add", "Gelu", "LayerNormalization", "MatMul", "Mul", "Relu", "Sigmoid", "Split", "Sub", "Sum", "Tanh"}
"""Operators whose result for a token needs that token's operands alone, where other operands are weights."""
ATTENTION = "MultiHeadAttention"
"""Its result for a token needs that token's query, and every token's key and value."""


def keep_only(graph: Any) -> int:
    """Narrow in place what is read at the first token only.

    Before: `Gather(f(x), 0)` of x [batch, sequence, width]. After: `Squeeze(f(Gather(x, [0])))`, where the `Gather`
    keeps the axis, and stands once before everything that is read so.

    Returns:
        Operators that now compute one row.
    """
    narrow: list[Any] = []
    for node in reversed(list(graph)):
        uses = [use for output in node.outputs for use in output.uses()]
        if uses and _is_rowwise(node) and all(_reads_first(use, narrow) for use in uses):
            narrow.append(node)
    rows: dict[Any, Any] = {}
    for node in reversed(narrow):
        for position, value in _wide_inputs(node, narrow):
            if value not in rows:
                rows[value] = _first_row(graph, value)
            node.replace_input_with(position, rows[value])
    for node in list(graph):
        if _picks_first(node) and node.inputs[0].producer() in narrow:
            _drop_axis(graph, node)
    return len(narrow)


def _reads_first(use: Any, narrow: list[Any]) -> bool:
    if use.node in narrow:
        return bool(use.node.op_type != ATTENTION or use.idx == 0)
    return use.idx == 0 and _picks_first(use.node)


def _picks_first(node: Any) -> bool:
    index = node.inputs[1].const_value if node.op_type == "Gather" else None
    return index is not None and node.attributes["axis"].as_int() == 1 and index.shape == () and index.numpy() == 0


def _is_rowwise(node: Any) -> bool:
    if not _is_sequence(node.outputs[0]):
        return False
    if node.op_type == ATTENTION:
        return True
    if node.op_type in {"LayerNormalization", "Split"} and node.attributes["axis"].as_int() not in (-1, 2):
        return False
    others = [value for value in node.inputs if not _is_sequence(value)]
    return node.op_type in ROWWISE and all(value.const_value is not None and len(value.shape) < 3 for value in others)


def _wide_inputs(node: Any, narrow: list[Any]) -> Iterator[tuple[int, Any]]:
    last = 1 if node.op_type == ATTENTION else len(node.inputs)
    for position, value in enumerate(node.inputs[:last]):
        if _is_sequence(value) and value.producer() not in narrow:
            yield position, value


def _is_sequence(value: Any) -> bool:
    """Whether a value is computed, [batch, sequence, width]."""
    return value.const_value is None and value.shape is not None and len(value.shape) == 3


def _first_row(graph: Any, value: Any) -> Any:
    import onnx_ir as ir

    index = _number(graph, "first_token", 0)
    row = ir.node("Gather", [value, index], attributes={"axis": 1}, name=f"{value.name}_first")
    row.outputs[0].name = f"{value.name}_first"
    graph.insert_after(value.producer(), row)
    return row.outputs[0]


def _drop_axis(graph: Any, picking: Any) -> None:
    """Put a `Squeeze`, which moves no bytes, in the place of a `Gather` from the one row that is left."""
    import onnx_ir as ir
    from onnx_ir.convenience import replace_nodes_and_values

    squeezing = ir.node("Squeeze", [picking.inputs[0], _number(graph, "sequence_axis", 1)], name=picking.name)
    squeezing.outputs[0].name = picking.outputs[0].name
    replace_nodes_and_values(graph, picking, [picking], [squeezing], picking.outputs, squeezing.outputs)


def _number(graph: Any, name: str, number: int) -> Any:
    import onnx_ir as ir

    found = graph.initializers.get(name)
    if found is None:
        found = ir.Value(name=name, const_value=ir.tensor(np.array([number], np.int64), name=name))
        graph.register_initializer(found)
    return found
