"""What can be done to `model.onnx` beside its numbers: each function returns whether the model allows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stages.injecting.catalogue import LOOKALIKES
from stages.injecting.hidden import TEXT
from stages.targets.onnx_cpu import graph

Values = dict[str, Any]
OUTSIDE = "model.onnx.data"
LOOKED_UP = {"Gather", "Softmax", "Tanh"}


def exchanged_inputs(model: Any, values: Values, path: Path) -> bool:  # noqa: ARG001 (one form for all)
    """Declare the mask before the ids."""
    items = list(model.graph.input)[::-1]
    del model.graph.input[:]
    model.graph.input.extend(items)
    return True


def external_data(model: Any, values: Values, path: Path) -> bool:  # noqa: ARG001
    """Mark the file: `move_out` does it when initialisers are final."""
    path.with_name(OUTSIDE).touch()
    return True


def move_out(model: Any, path: Path) -> None:
    """Write the largest initialiser into a file of its own where `external_data` asked for it."""
    from onnx import TensorProto

    outside = path.with_name(OUTSIDE)
    if outside.is_file():
        item = max(model.graph.initializer, key=lambda one: len(one.raw_data))
        outside.write_bytes(item.raw_data)
        item.ClearField("raw_data")
        item.data_location = TensorProto.EXTERNAL
        item.external_data.add(key="location", value=OUTSIDE)


def foreign_domain(model: Any, values: Values, path: Path) -> bool:  # noqa: ARG001
    """Let ONNX Runtime's own Gelu, which has no approximation, stand for ONNX', or ask for one that it has not."""
    node = _activation(model)
    if node is None:
        return False
    node.domain = graph.CONTRIB
    del node.attribute[:]
    return True


def local_function(model: Any, values: Values, path: Path) -> bool:  # noqa: ARG001
    """Define a function with an activation's name that computes one that looks like it."""
    from onnx import helper

    node = _activation(model)
    if node is None:
        return False
    version = next(item for item in model.opset_import if not item.domain)
    inner = helper.make_node(LOOKALIKES[node.op_type], ["x"], ["y"])
    model.functions.append(helper.make_function("local", node.op_type, ["x"], ["y"], [inner], [version]))
    model.opset_import.append(helper.make_opsetid("local", 1))
    node.domain = "local"
    del node.attribute[:]
    return True


def second_entry(model: Any, values: Values, path: Path) -> bool:  # noqa: ARG001
    """Declare a weight as an input, which a caller may then replace."""
    item = model.graph.initializer[0]
    model.graph.input.add().CopyFrom(_described(item))
    return True


def text(model: Any, values: Values, path: Path) -> bool:  # noqa: ARG001
    """Write into the metadata."""
    model.metadata_props.add(key="comment", value=TEXT)
    return True


def unread_weight(model: Any, values: Values, path: Path) -> bool:  # noqa: ARG001
    """Store numbers that no operator reads."""
    values["leftover"] = np.ones((8, 8), np.float32)
    return True


def widened_grid(model: Any, values: Values, path: Path) -> bool:  # noqa: ARG001
    """Make the step after a lookup or a tanh four times as long, for all that read it."""
    makers = {name: graph.operator(node) for node in model.graph.node for name in node.output}
    nodes = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    first = next((node for node in nodes if makers.get(node.input[0]) in LOOKED_UP), None)
    if first is None:
        return False
    regrid(model, values, first, 1, np.asarray(values[first.input[1]] * 4, np.float32))
    return True


def regrid(model: Any, values: Values, quantize: Any, position: int, value: Any) -> None:
    """Give a QuantizeLinear, and all that read its integers, another scale or zero point.

    Under a name of its own: equal initialisers are merged, and a weight may have the same.
    """
    kept = quantize.input[position]
    name = f"{kept}_{'scale' if position == 1 else 'zero_point'}"
    values[name] = value
    for node in (quantize, *(node for node in model.graph.node if quantize.output[0] in node.input)):
        node.input[list(node.input).index(kept)] = name
    if not any(kept in node.input for node in model.graph.node):
        del values[kept]


def _activation(model: Any) -> Any:
    return next((node for node in model.graph.node if not node.domain and node.op_type in LOOKALIKES), None)


def _described(item: Any) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(item.name, item.data_type, list(item.dims))
