"""Rewrite an exported graph to the operators that ONNX Runtime's CPU kernels are fast at, for any family.

This happens in `convert`, before any precision. So the rewritten graph is itself held to torch's logits in fp32 and to
the checkpoint's weights bit by bit, where nothing is rounded yet and a wrong rewrite has nothing to hide behind; and
the structure check compares an artifact with a graph of the same operators, without a reader that unfuses them again
and could be wrong in the same way. Queries, keys and values stay three products: packing them into one gained nothing
(below 2 % at 12 and at 64 tokens, fp32 and int8) and would hide the checkpoint's matrices from every check.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.targets.onnx_cpu import affine, first_token, positions
from stages.targets.onnx_cpu.graph import CONTRIB


def fuse(model: Any, *, layers: int, max_length: int) -> dict[str, int]:
    """Rewrite in place.

    Args:
        model: onnx_ir.Model with the shapes that torch.export inferred.
        layers: how many attentions the checkpoint's config names.
        max_length: tokens of the longest input.

    Returns:
        How often each rewrite applied. `attention` short of `layers`, with a `softmax_left`, is an attention that no
        pattern knows: right, and slower. By little where positions turn queries and keys (ModernBERT): fused it took
        98 % of the time at 128 tokens and 97 % at 12.
    """
    from onnx_ir.passes.common import RemoveUnusedNodesPass
    from onnxscript.rewriter import RewriteRule

    turn_weights(model.graph)
    attention = RewriteRule(_attention, _fused_attention, _is_attention, remove_nodes=False)
    gelu = RewriteRule(_tanh_gelu, _fused_gelu, _is_gelu, remove_nodes=False)
    found = {"layers": layers, "attention": attention.apply_to_model(model), "tanh_gelu": gelu.apply_to_model(model)}
    found["positions"] = positions.fold(model.graph, max_length)
    RemoveUnusedNodesPass()(model)
    found["affine"] = affine.fold(model.graph)
    found["shift"] = shift_at_once(model.graph)
    found["residual"] = keep_residuals_apart(model.graph)
    found["first_token"] = first_token.keep_only(model.graph)
    return found | {"softmax_left": sum(node.op_type == "Softmax" for node in model.graph)}


def turn_weights(graph: Any) -> None:
    """Store transposed what every use of a weight transposes.

    torch folds the transpose of a small weight, or of one that is used once, but not of the matrices of ALBERT's shared
    layer: each of its layers would turn them anew, and no product would have a constant factor to quantise.
    """
    import onnx_ir as ir
    from onnx_ir.convenience import replace_all_uses_with

    turned: dict[str, Any] = {}
    for node in list(graph):
        value = constant(node.inputs[0]) if node.op_type == "Transpose" else None
        if value is None or value.ndim != 2:
            continue
        name = f"{node.inputs[0].name}_turned"
        if name not in turned:
            stored = ir.tensor(np.ascontiguousarray(value.T), name=name)
            shape = ir.Shape(stored.shape.numpy())
            turned[name] = ir.Value(name=name, const_value=stored, shape=shape, type=ir.TensorType(stored.dtype))
            graph.register_initializer(turned[name])
        replace_all_uses_with(node.outputs[0], turned[name])


def constant(value: Any) -> Any:
    """Return the array of a value that is the same for every input, else None."""
    return None if value is None or value.const_value is None else value.const_value.numpy()


def _attention(
    op: Any,
    query: Any,
    key: Any,
    value: Any,
    query_shape: Any,
    key_shape: Any,
    value_shape: Any,
    scale: Any,
    mask: Any,
    one: Any,
    low: Any,
    axes: Any,
    merged: Any,
) -> Any:
    queries = op.Transpose(op.Reshape(query, query_shape), perm=[0, 2, 1, 3])
    keys = op.Transpose(op.Reshape(key, key_shape), perm=[0, 2, 3, 1])
    values = op.Transpose(op.Reshape(value, value_shape), perm=[0, 2, 1, 3])
    hidden = op.Unsqueeze(op.Mul(op.Sub(op.Cast(mask), one), low), axes)
    weights = op.Softmax(op.Add(op.Mul(op.MatMul(queries, keys), scale), hidden), axis=-1)
    return op.Reshape(op.Transpose(op.MatMul(weights, values), perm=[0, 2, 1, 3]), merged)


def _is_attention(
    context: Any,  # noqa: ARG001 (the rewriter's signature)
    query: Any,
    key: Any,
    mask: Any,
    scale: Any,
    one: Any,
    low: Any,
    query_shape: Any,
    **_: Any,
) -> bool:
    """Whether heads divide the queries evenly, and the mask is the graph's own, 1 for text and 0 for padding."""
    size, width = _head_size(query_shape), query.shape[-1]
    scalars = [constant(item) for item in (scale, one, low)]
    return (
        mask.is_graph_input()
        and size is not None
        and isinstance(width, int)
        and width % size == 0
        and key.shape[-1] == width
        and all(item is not None and item.size == 1 for item in scalars)
        and scalars[1] == 1
        and scalars[2] > 0
    )


def _fused_attention(
    op: Any, query: Any, key: Any, value: Any, mask: Any, scale: Any, low: Any, query_shape: Any, **_: Any
) -> Any:
    """Mask and scale become settings of the operator: padding gets `mask_filter_value` added to its scores."""
    return op.MultiHeadAttention(
        query,
        key,
        value,
        None,
        mask,
        num_heads=query.shape[-1] // _head_size(query_shape),
        scale=float(constant(scale).item()),
        mask_filter_value=-float(constant(low).item()),
        _domain=CONTRIB,
        _version=1,
    )


def _head_size(shape: Any) -> int | None:
    """Last number of what a reshape asks for, put together from the batch, the length and constants."""
    maker = shape.producer()
    last = constant(shape if maker is None else maker.inputs[-1])
    return None if last is None or last.size == 0 else int(last.reshape(-1)[-1])


def _tanh_gelu(op: Any, x: Any, half: Any, three: Any, cubic: Any, root: Any, one: Any) -> Any:
    inner = op.Mul(op.Add(x, op.Mul(op.Pow(x, three), cubic)), root)
    return op.Mul(op.Mul(x, half), op.Add(op.Tanh(inner), one))


def _is_gelu(context: Any, half: Any, three: Any, cubic: Any, root: Any, one: Any, **_: Any) -> bool:  # noqa: ARG001
    expected = ((half, 0.5), (three, 3), (cubic, 0.044715), (root, (2 / np.pi) ** 0.5), (one, 1))
    return all(constant(item) is not None and np.allclose(constant(item), number) for item, number in expected)


def _fused_gelu(op: Any, x: Any, **_: Any) -> Any:
    return op.Gelu(x, approximate="tanh")


def shift_at_once(graph: Any) -> int:
    """Turn `Pad(Slice(x))`, by which MobileBERT sets words beside their neighbours, into one `Pad`; returns how many.

    Before: a Slice that drops so many rows at one end of an axis, then a Pad. After: a Pad by fewer, at that end by a
    negative number, which drops.
    """
    import onnx_ir as ir

    count = 0
    for node in list(graph):
        cutting: Any = node.inputs[0].producer() if _is_plain_pad(node) else None
        dropped = None if cutting is None else _dropped(cutting)
        if dropped is None or len(list(cutting.outputs[0].uses())) > 1:
            continue
        (axis, first, last), pads = dropped, constant(node.inputs[1])
        pads = pads.copy()
        pads[[axis, len(pads) // 2 + axis]] -= [first, last]
        name = f"{node.outputs[0].name}_pads"
        stored = ir.Value(name=name, const_value=ir.tensor(pads, name=name))
        graph.register_initializer(stored)
        node.replace_input_with(0, cutting.inputs[0])
        node.replace_input_with(1, stored)
        graph.remove(cutting, safe=True)
        count += 1
    return count


def _is_plain_pad(node: Any) -> bool:
    """Whether it pads every axis by constants, with a constant."""
    mode = node.attributes.get("mode")
    plain = node.op_type == "Pad" and len(node.inputs) == 3 and constant(node.inputs[1]) is not None
    return plain and (mode is None or mode.as_string() == "constant")


def _dropped(cutting: Any) -> tuple[int, int, int] | None:
    """Axis of a Slice, and how many rows it drops at its beginning and at its end; None where it does anything else."""
    limits = [constant(value) for value in cutting.inputs[1:]] if cutting.op_type == "Slice" else []
    if len(limits) != 4 or any(limit is None or limit.size != 1 for limit in limits):
        return None
    start, end, axis, step = (int(limit.item()) for limit in limits)
    if step != 1 or start < 0 or axis < 0 or 0 <= end < np.iinfo(np.int32).max:
        return None
    return axis, start, max(-end, 0)


def keep_residuals_apart(graph: Any) -> int:
    """Turn the sum before a LayerNormalization from `Add` into `Sum`; returns how many.

    ONNX Runtime fuses `LayerNormalization(Add(x, y))` into SkipLayerNormalization when it opens a model, whose CPU
    kernel takes five times as long as the two (64 tokens of 256: 54 µs against 4 and 10), and looks for Add alone.
    """
    import onnx_ir as ir

    count = 0
    for node in list(graph):
        before = node.inputs[0].producer() if node.op_type == "LayerNormalization" else None
        if before is not None and before.op_type == "Add" and all(constant(item) is None for item in before.inputs):
            total = ir.node("Sum", before.inputs, name=before.name)
            _replace(graph, before, total)
            count += 1
    return count


def _replace(graph: Any, old: Any, new: Any) -> None:
    from onnx_ir.convenience import replace_nodes_and_values

    new.outputs[0].name = old.outputs[0].name
    replace_nodes_and_values(graph, old, [old], [new], old.outputs, new.outputs)
