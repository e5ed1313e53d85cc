"""Store weights in fewer bytes than the graph computes with.

What expands a weight of a matrix product is an operator on constants alone: ONNX Runtime evaluates it once, when it
opens the model, so that the artifact is small on disk and exactly as fast as fp32. Its kernels for x86-64 have no half
precision, and its product with 8-bit weights and float activations expands them in every call (7 times slower).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from stages.targets.onnx_cpu import graph, integers, weights


def store_factors(model: Any, names: Collection[str], *, half: bool, per_channel: bool = False) -> None:
    """Store weights of matrix products as fp16, or as int8 with scales, in place.

    Before: `MatMul(x, weight fp32)`. After: `MatMul(x, Cast(weight fp16))`, or
    `MatMul(x, Mul(Cast(weight int8), scale))`.
    """
    from onnx import TensorProto, helper, numpy_helper

    values = {item.name: item for item in model.graph.initializer}
    sideways = weights.turned(model)
    nodes = []
    for name in sorted(names):
        value = numpy_helper.to_array(values.pop(name))
        stored, scaled = f"{name}_stored", f"{name}_scale"
        if half:
            nodes.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
            values[stored] = numpy_helper.from_array(value.astype(np.float16), stored)
        else:
            nodes.append(helper.make_node("Cast", [stored], [f"{name}_cast"], to=TensorProto.FLOAT))
            nodes.append(helper.make_node("Mul", [f"{name}_cast", scaled], [name]))
            inputs = 0 if name in sideways else 1
            levels, scale = integers.symmetric(value, inputs if per_channel else None)
            values[stored] = numpy_helper.from_array(levels, stored)
            values[scaled] = numpy_helper.from_array(scale, scaled)
    graph.replace_nodes(model.graph, [*nodes, *model.graph.node])
    graph.replace_initializers(model.graph, values.values())


def store_tables(model: Any, names: Collection[str]) -> None:
    """Store lookup tables as fp16 in place: `Gather(table fp32, ids)` becomes `Cast(Gather(table fp16, ids))`."""
    from onnx import TensorProto, helper, numpy_helper

    values = {item.name: item for item in model.graph.initializer}
    nodes: list[Any] = []
    for node in model.graph.node:
        nodes.append(node)
        if graph.READERS.get(node.op_type, ("",))[0] == "lookup" and node.input[0] in names:
            found = node.output[0]
            node.output[0] = f"{found}_half"
            nodes.append(helper.make_node("Cast", [node.output[0]], [found], to=TensorProto.FLOAT))
    for name in names:
        values[name] = numpy_helper.from_array(numpy_helper.to_array(values[name]).astype(np.float16), name)
    graph.replace_nodes(model.graph, nodes)
    graph.replace_initializers(model.graph, values.values())
