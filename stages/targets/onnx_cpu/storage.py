"""Store weights in fewer bytes than the graph computes with.

What expands a weight of a matrix product is an operator on constants alone: ONNX Runtime evaluates it once, when it
opens the model, so that the artifact is small on disk and exactly as fast as fp32. Its kernels for x86-64 have no half
precision, and its product with 8-bit weights and float activations expands them in every call (7 times slower).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from stages.targets.onnx_cpu import graph, integers

PRODUCTS = {"MatMul", *graph.INTEGER_PRODUCTS} - set(graph.PACKED)


def turned(model: Any) -> set[str]:
    """Names of initialisers that are stored as [in, out]."""
    expanded = graph.expansions(model)
    found = set()
    for node in model.graph.node:
        if graph.operator(node) in PRODUCTS or (
            graph.operator(node) == "Gemm" and not graph.gemm_settings(node)["transB"]
        ):
            found.add(expanded.get(node.input[1], (node.input[1], ""))[0])
    return found


def store_factors(model: Any, names: Collection[str], *, half: bool, per_channel: bool = False) -> None:
    """Store weights of matrix products as fp16, or as int8 with scales, in place.

    Before: `MatMul(x, weight fp32)`. After: `MatMul(x, Cast(weight fp16))`, or
    `MatMul(x, Mul(Cast(weight int8), scale))`.
    """
    from onnx import TensorProto, helper, numpy_helper

    values = {item.name: item for item in model.graph.initializer}
    sideways = turned(model)
    nodes = []
    for name in sorted(names):
        value = numpy_helper.to_array(values.pop(name))
        stored, scaled = f"{name}_stored", f"{name}_scale"
        if half:
            nodes.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
            values[stored] = numpy_helper.from_array(value.astype(np.float16), stored)
        else:
            nodes.extend(expansion(name))
            inputs = 0 if name in sideways else 1
            levels, scale = integers.symmetric(value, inputs if per_channel else None)
            values[stored] = numpy_helper.from_array(levels, stored)
            values[scaled] = numpy_helper.from_array(scale, scaled)
    graph.replace_nodes(model.graph, [*nodes, *model.graph.node])
    graph.replace_initializers(model.graph, values.values())


def expansion(name: str) -> list[Any]:
    """Make the operators that expand `NAME_stored` int8 by `NAME_scale` to the float constant `NAME` that it was."""
    from onnx import TensorProto, helper

    cast = helper.make_node("Cast", [f"{name}_stored"], [f"{name}_cast"], to=TensorProto.FLOAT)
    return [cast, helper.make_node("Mul", [f"{name}_cast", f"{name}_scale"], [name])]


def store_tables(model: Any, names: Collection[str]) -> None:
    """Store lookup tables as fp16 in place: `Gather(table fp32, ids)` becomes `Cast(Gather(table fp16, ids))`.

    What a `Slice` reads, positions, is widened before it: `Slice(Cast(table fp16))`.
    """
    from onnx import TensorProto, helper, numpy_helper

    values = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    nodes: list[Any] = []
    for node in model.graph.node:
        table = node.input[0] if graph.READERS.get(node.op_type, ("",))[0] == "lookup" else ""
        if table in names and node.op_type == "Slice":
            stored = f"{table}_stored"
            if table in values:
                values[stored] = values.pop(table).astype(np.float16)
                nodes.append(helper.make_node("Cast", [stored], [table], to=TensorProto.FLOAT))
            nodes.append(node)
        elif table in names:
            values[table] = values[table].astype(np.float16)
            found = node.output[0]
            node.output[0] = f"{found}_half"
            nodes += [node, helper.make_node("Cast", [node.output[0]], [found], to=TensorProto.FLOAT)]
        else:
            nodes.append(node)
    graph.replace_nodes(model.graph, nodes)
    graph.replace_initializers(model.graph, [numpy_helper.from_array(value, name) for name, value in values.items()])
