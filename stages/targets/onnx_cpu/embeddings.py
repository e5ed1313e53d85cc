"""Store lookup tables as int8, expanding only the rows that an utterance looks up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from stages.targets.onnx_cpu import graph
from stages.targets.onnx_cpu.graph import Weight

LEVELS = 127


def quantize_tables(model: Any, tables: Sequence[Weight], granularity: Literal["tensor", "channel"]) -> None:
    """Quantise in place the float tables that `Gather` reads, symmetric int8.

    Before: `Gather(table fp32, ids)`. After: `Mul(Cast(Gather(table int8, ids)), scale)`, where `scale` is one
    number per tensor, or `Gather(scales, ids)` per channel (one a row: rare tokens keep the small norms they were
    initialised with). Two wrongs are avoided: ONNX Runtime's static quantiser puts a `DequantizeLinear` before the
    `Gather`, which expands the whole table for every utterance; and a `DequantizeLinear` after it is moved beyond
    the `Slice` of MobileBERT's trigrams by a `QuantizeLinear` of uint8, which cuts all negative values to zero.

    Args:
        model: ModelProto.
        tables: the weights to quantise; all their consumers are `Gather`.
        granularity: one scale per table or per row.
    """
    from onnx import numpy_helper

    values = {item.name: item for item in model.graph.initializer}
    sources = {name: table for table in tables for name in table.nodes}
    added = []
    for table in tables:
        rows = numpy_helper.to_array(values.pop(table.name))
        integers, scales = _symmetric(rows, axis=1 if granularity == "channel" else None)
        added.append(numpy_helper.from_array(integers, f"{table.name}_quantized"))
        added.append(numpy_helper.from_array(scales, f"{table.name}_scale"))
    nodes = []
    for node in model.graph.node:
        source = sources.get(node.name)
        nodes.extend([node] if source is None else _expansion(node, source.name, granularity))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    graph.replace_initializers(model.graph, [*values.values(), *added])


def _symmetric(rows: Any, axis: int | None) -> tuple[Any, Any]:
    largest = np.abs(rows).max(axis=axis, keepdims=axis is not None)
    # A row of zeros has no range; any positive scale represents it exactly.
    scale = (np.where(largest > 0, largest, 1.0) / LEVELS).astype(np.float32)
    return np.clip(np.rint(rows / scale), -LEVELS, LEVELS).astype(np.int8), scale


def _expansion(node: Any, table: str, granularity: str) -> list[Any]:
    import onnx
    from onnx import helper

    ids, output = node.input[1], node.output[0]
    axis = {item.name: item.i for item in node.attribute}.get("axis", 0)
    picked, scale = f"{output}_quantized", f"{table}_scale"
    rescaled = helper.make_node("Mul", [f"{output}_cast", scale], [output], name=f"{node.name}_expand")
    nodes = [
        helper.make_node("Gather", [f"{table}_quantized", ids], [picked], name=node.name, axis=axis),
        helper.make_node("Cast", [picked], [f"{output}_cast"], name=f"{node.name}_cast", to=onnx.TensorProto.FLOAT),
    ]
    if granularity == "channel":
        rescaled.input[1] = f"{output}_scale"
        nodes.append(
            helper.make_node("Gather", [scale, ids], [f"{output}_scale"], name=f"{node.name}_scale", axis=axis)
        )
    return [*nodes, rescaled]
