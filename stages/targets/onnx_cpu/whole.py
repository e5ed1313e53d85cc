"""Hold the file of an ONNX artifact to what `structure` reads of it: the rest would ship unseen."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from stages.targets import messages
from stages.targets.base import read_signature
from stages.targets.onnx_cpu import FUSED, graph
from stages.tasks.base import Call

FILES = {graph.MODEL}
"""What `quantize` writes for this target."""
CONVERTED = {*FILES, FUSED}
"""What `convert` writes."""
FIELDS: messages.Fields = {
    "ModelProto": {"ir_version", "opset_import", "producer_name", "graph"},
    "OperatorSetIdProto": {"domain", "version"},
    "GraphProto": {"name", "node", "initializer", "input", "output"},
    "NodeProto": {"name", "op_type", "domain", "input", "output", "attribute"},
    "AttributeProto": {"name", "type", "f", "i", "s", "floats", "ints"},
    "TensorProto": {"name", "dims", "data_type", "raw_data"},
    "ValueInfoProto": {"name", "type"},
    "TypeProto": {"tensor_type"},
    "Tensor": {"elem_type", "shape"},
    "TensorShapeProto": {"dim"},
    "Dimension": {"dim_value", "dim_param"},
}
"""No functions, nested graphs, external data, sparse tensors, training, annotations, inferred shapes, comments."""
OPSETS = {"": None, graph.CONTRIB: 1}
"""Domain → the version that its operators are written for, None where `target.opset` says so."""
ADDED = re.compile(
    r"_(axis|cast|half|identity|members|middle|minimum|offset|quantized|residue|rounded|rows|scale|shape|split|stored|sums|"
    r"turned|zero_point)\Z"
)
"""How names end that quantisation gives, once or several times, to what it adds to a name of the converted model."""


def strays(converted: Path, artifact: Path) -> list[str]:
    """Name what a file holds that comparing graphs does not account for.

    Returns:
        One line for each: fields, values, nodes and opsets that lead nowhere, declarations that differ.

    Raises:
        ArtifactError: a file is missing or is not ONNX.
    """
    (call,) = read_signature(converted).calls
    source, made = (_read(directory / graph.MODEL, call) for directory in (converted, artifact))
    found = [f"the converted model: {line}" for line in source.strays] + made.strays
    found += [
        f"{key} is {made.declared[key]}, the converted model's {value}"
        for key, value in source.declared.items()
        if value != made.declared[key]
    ]
    return found + [
        f"'{name[:60]}' is no name of the converted model's, nor one that quantisation gives"
        for name in sorted(made.names - source.names)
        if not _follows(name, source.names)
    ]


def _follows(name: str, known: set[str]) -> bool:
    while name not in known and ADDED.search(name):
        name = ADDED.sub("", name)
    return name in known


class _File(NamedTuple):
    """What is kept of a file: two models in memory at once are too many.

    Attributes:
        strays: what leads nowhere in it.
        declared: what it says of itself beside its operators.
        names: of values.
    """

    strays: list[str]
    declared: dict[str, str]
    names: set[str]


def _read(path: Path, call: Call) -> _File:
    model = graph.load(path)
    declared, names = _declared(model), set(_defined(model)) | {item.name for item in model.graph.output}
    return _File(list(_strays(model, path, call)), declared, names)


def _strays(model: Any, path: Path, call: Call) -> Iterator[str]:
    yield from messages.strays(model, path.read_bytes(), FIELDS)
    yield from (f"'{name}' is defined twice" for name, count in _defined(model).items() if count > 1)
    yield from _unread(model.graph)
    for position, node in enumerate(model.graph.node):
        if node.name not in ("", f"{node.op_type}_{position}"):
            yield f"a {node.op_type} is called '{node.name[:60]}', expected '{node.op_type}_{position}'"
        if len({item.name for item in node.attribute}) < len(node.attribute):
            yield f"'{node.name}' has an attribute twice"
        yield from (f"'{node.name}' has a value beside its {item.name}" for item in node.attribute if _is_double(item))
    called = [item.name for item in model.graph.input], [item.name for item in model.graph.output]
    expected = graph.names(call)
    if called != expected:
        yield f"it maps {called[0]} to {called[1]}, expected {expected[0]} to {expected[1]}, in this order"
    used = {node.domain for node in model.graph.node}
    for item in model.opset_import:
        if item.domain not in used or OPSETS.get(item.domain, -1) not in (None, item.version):
            yield f"it imports version {item.version} of the operators '{item.domain}'"
    if len({item.domain for item in model.opset_import}) < len(model.opset_import):
        yield "it imports operators of one domain twice"


def _is_double(attribute: Any) -> bool:
    """Whether a setting has a value of another type than it says, which is not the one that counts."""
    kind = attribute.AttributeType.Name(attribute.type)
    counting = {"FLOAT": "f", "INT": "i", "STRING": "s"}.get(kind, kind.lower())
    return bool({field.name for field, _ in attribute.ListFields()} - {"name", "type", "doc_string", counting})


def _unread(chart: Any) -> Iterator[str]:
    """Name what no output follows from."""
    makers = {name: node for node in chart.node for name in node.output}
    reached, pending = set[str](), [item.name for item in chart.output]
    while pending:
        name = pending.pop()
        if name not in reached:
            reached.add(name)
            pending += makers[name].input if name in makers else ()
    for node in chart.node:
        yield from (
            f"'{name}' ({node.op_type}) is computed and not read"
            for name in node.output
            if name and name not in reached
        )
    yield from (f"'{item.name}' is stored and not read" for item in chart.initializer if item.name not in reached)


def _defined(model: Any) -> Counter[str]:
    chart = model.graph
    makers = (name for node in chart.node for name in node.output if name)
    return Counter([*(item.name for item in (*chart.input, *chart.initializer)), *makers])


def _declared(model: Any) -> dict[str, str]:
    chart = model.graph
    return {
        "IR version": str(model.ir_version),
        "opset": str([item.version for item in model.opset_import if not item.domain]),
        "producer": repr(model.producer_name[:60]),
        "graph": repr(chart.name[:60]),
        "inputs": str([_shape(item) for item in chart.input]),
        "outputs": str([_shape(item) for item in chart.output]),
    }


def _shape(item: Any) -> str:
    from onnx import TensorProto

    kind = item.type.tensor_type
    sizes = [one.dim_param or one.dim_value for one in kind.shape.dim]
    return f"{item.name} {TensorProto.DataType.Name(kind.elem_type)} {sizes}"
