"""Store lookup tables as int8, expanding only the rows that an utterance looks up."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from stages.targets.onnx_cpu import graph, integers, products, storage
from stages.targets.onnx_cpu.graph import CONTRIB


def quantize_tables(model: Any, tables: Collection[str], per_channel: bool) -> None:
    """Quantise in place the float tables that `Gather` and `Slice` read, symmetric int8.

    Before: `Gather(table fp32, ids)`. After: `Mul(Cast(Gather(table int8, ids)), scale)`, where `scale` is one
    number per tensor, or `Gather(scales, ids)` per channel (one a row: rare tokens keep the small norms they were
    initialised with). A `Slice`, of positions, reads `Mul(Cast(table int8), scale)`, one scale a column: a table so
    small is expanded whole, once, when ONNX Runtime opens the model. A `DequantizeLinear` in the place of `Cast` and
    `Mul` is one that ONNX Runtime may move: beyond the `Slice` of MobileBERT's trigrams and into a `QuantizeLinear` of
    uint8, which cut all negative values to zero.

    Args:
        model: ModelProto.
        tables: initialisers; all that reads them is `Gather` or `Slice`.
        per_channel: one scale per row or column, else per table.
    """
    from onnx import numpy_helper

    values = {item.name: item for item in model.graph.initializer}
    nodes: list[Any] = []
    for node in model.graph.node:
        if graph.READERS.get(node.op_type, ("",))[0] != "lookup" or node.input[0] not in tables:
            nodes.append(node)
            continue
        table, by_row = node.input[0], per_channel and node.op_type == "Gather"
        if node.op_type == "Slice":
            nodes.extend([*(storage.expansion(table) if table in values else ()), node])
        else:
            nodes.extend(_expansion(node, by_row))
        stored = f"{table}_stored" if node.op_type == "Slice" else f"{table}_quantized"
        if stored in values:  # for a product as well
            values.pop(table, None)
        elif table in values:
            axis = (1 if by_row else 0) if per_channel else None
            levels, scale = integers.symmetric(numpy_helper.to_array(values.pop(table)), axis)
            for name, value in ((stored, levels), (f"{table}_scale", scale)):
                values[name] = numpy_helper.from_array(value, name)
    graph.replace_nodes(model.graph, nodes)
    graph.replace_initializers(model.graph, values.values())


def quantize_tables_4bit(model: Any, tables: Collection[str]) -> None:
    """Quantise in place the float tables that `Gather` reads, 4 bits with a scale for every 32 elements of a row.

    Before: `Gather(table fp32, ids)`. After: `GatherBlockQuantized`, one operator; what a `Slice` reads, positions, is
    too small to be worth one of its own and becomes int8.
    """
    from onnx import helper, numpy_helper

    values = {item.name: item for item in model.graph.initializer}
    looked_up = {node.input[0] for node in model.graph.node if node.op_type == "Gather"} & set(tables)
    settings = graph.SETTINGS["GatherBlockQuantized"]
    nodes: list[Any] = []
    for node in model.graph.node:
        if node.op_type != "Gather" or node.input[0] not in looked_up:
            nodes.append(node)
            continue
        stored, scale = f"{node.input[0]}_quantized", f"{node.input[0]}_scale"
        rows = stored
        if stored in values and len(values[stored].dims) == 3:  # for a product as well, as that one reads it
            values.pop(node.input[0], None)
            rows, shape = f"{stored}_rows", f"{stored}_shape"
            if shape not in values:
                values[shape] = numpy_helper.from_array(np.asarray([values[stored].dims[0], -1]), shape)
                nodes.append(helper.make_node("Reshape", [stored, shape], [rows]))
        inputs = [rows, node.input[1], scale]
        nodes.append(helper.make_node("GatherBlockQuantized", inputs, node.output, domain=CONTRIB, **settings))
        if node.input[0] in values:
            table = numpy_helper.to_array(values.pop(node.input[0]))
            levels, scales = integers.blocks(table, halves=True)
            values[stored] = numpy_helper.from_array(integers.packed(levels)[:, : table.shape[1] // 2], stored)
            constants, widening = products.scaled(scale, scales, halves=True)
            values |= {key: numpy_helper.from_array(value, key) for key, value in constants.items()}
            nodes[-1:-1] = widening
    graph.replace_nodes(model.graph, nodes)
    graph.replace_initializers(model.graph, values.values())
    quantize_tables(model, set(tables) - looked_up, per_channel=True)


def _expansion(node: Any, by_row: bool) -> Iterator[Any]:
    import onnx
    from onnx import helper

    table, rest, output = node.input[0], node.input[1:], node.output[0]
    settings, scale = graph.attributes(node), f"{table}_scale"
    yield helper.make_node(node.op_type, [f"{table}_quantized", *rest], [f"{output}_quantized"], **settings)
    yield helper.make_node("Cast", [f"{output}_quantized"], [f"{output}_cast"], to=onnx.TensorProto.FLOAT)
    if by_row:
        yield helper.make_node(node.op_type, [scale, *rest], [f"{output}_scale"], **settings)
    yield helper.make_node("Mul", [f"{output}_cast", f"{output}_scale" if by_row else scale], [output])
