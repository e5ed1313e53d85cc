"""Fold what scales and shifts a linear layer's result into its matrix and bias: MobileBERT's NoNorm.

`x * gain + shift` is two operators over every element, and a small layer's product takes hardly longer. The gain goes
into the matrix with one rounding, as LiteRT's converter puts a LayerNorm's into the layer after it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class _Affine(NamedTuple):
    """`Add(Mul(total, gain), shift)`, where `total` is a linear layer's result, alone or with something added.

    Attributes:
        product: MatMul with a constant matrix.
        biased: Add of its bias.
        total: Add, or `biased` itself, of what is scaled.
        rest: what was added to `biased`, None where that is the total itself.
        scaled: Mul by the gain.
        gain: constant [width].
        shift: constant [width].
    """

    product: Any
    biased: Any
    total: Any
    rest: Any
    scaled: Any
    gain: Any
    shift: Any


def fold(graph: Any) -> int:
    """Rewrite in place.

    Before: `Add(Mul(Add(Add(MatMul(x, W), bias), rest), gain), shift)`, in any order, `rest` or not.
    After: `Add(Add(MatMul(x, W * gain), bias * gain + shift), Mul(rest, gain))`.

    Returns:
        How many were folded.
    """
    from onnx_ir.convenience import replace_all_uses_with

    count = 0
    for node in list(graph):
        found = _match(node)
        if found is None:
            continue
        gain, shift = found.gain.const_value.numpy(), found.shift.const_value.numpy()
        matrix = found.product.inputs[1].name
        _scale(graph, found.product, gain, 0, f"{matrix}_folded")
        _scale(graph, found.biased, gain, shift, f"{matrix}_bias")
        if found.rest is not None:
            _multiply(graph, found)
        replace_all_uses_with(node.outputs[0], found.total.outputs[0])
        graph.remove([node, found.scaled], safe=True)
        count += 1
    return count


def _match(node: Any) -> _Affine | None:
    if node.outputs[0].is_graph_output():
        return None  # it must keep its name
    factors, shift = _operands(node, "Add")
    scaled = _only(factors)
    addends, gain = _operands(scaled, "Mul")
    total = _only(addends)
    if total is None or total.op_type != "Add":
        return None
    for biased, rest in ((total, None), *zip(map(_only, total.inputs), reversed(total.inputs), strict=True)):
        product, bias = _operands(biased, "Add")
        product = _only(product)
        if bias is not None and product is not None and product.op_type == "MatMul" and _is_own(product.inputs[1]):
            return _Affine(product, biased, total, rest, scaled, gain, shift)
    return None


def _operands(node: Any, op: str) -> tuple[Any, Any]:
    """Return the computed and the constant operand, [width], of an operator with one of each; else None twice."""
    if node is not None and node.op_type == op:
        for value, other in (node.inputs, reversed(node.inputs)):
            if value.const_value is None and other.const_value is not None and len(other.const_value.shape) == 1:
                return value, other
    return None, None


def _only(value: Any) -> Any:
    """Return what makes a value that is read once, else None."""
    return value.producer() if value is not None and len(list(value.uses())) == 1 else None


def _is_own(matrix: Any) -> bool:
    """Whether a constant belongs to one layer: for another it would have to be stored twice."""
    return matrix.const_value is not None and len(list(matrix.uses())) == 1


def _scale(graph: Any, node: Any, gain: Any, shift: Any, name: str) -> None:
    """Put a new constant in the place of the one that a node reads, scaled and shifted by new values per column."""
    import onnx_ir as ir

    position = next(at for at, value in enumerate(node.inputs) if value.const_value is not None)
    old = node.inputs[position]
    value = ir.tensor((old.const_value.numpy() * gain + np.float32(shift)).astype(np.float32), name=name)
    new = ir.Value(name=name, const_value=value, shape=old.shape, type=old.type)
    graph.register_initializer(new)
    node.replace_input_with(position, new)


def _multiply(graph: Any, found: _Affine) -> None:
    import onnx_ir as ir

    scaled = ir.node("Mul", [found.rest, found.gain])
    scaled.outputs[0].name = f"{found.total.outputs[0].name}_scaled"
    scaled.outputs[0].shape, scaled.outputs[0].type = found.rest.shape, found.rest.type
    graph.insert_before(found.total, scaled)
    found.total.replace_input_with(list(found.total.inputs).index(found.rest), scaled.outputs[0])
