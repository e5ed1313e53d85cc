"""Read, clean and write ONNX graphs so that equal models have equal bytes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from stages.core.errors import ArtifactError
from stages.targets.onnx_cpu import integers
from stages.tasks.base import MASK, Call

MODEL = "model.onnx"
CONTRIB = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""
PAST_VALUES = "past_key_values"
"""How states are called, as onnxruntime-genai and Transformers.js expect; after a call they are `present`."""
KINDS = ("lookup", "product")
READERS = {"Gather": ("lookup", 0), "Gemm": ("product", 1), "MatMul": ("product", 1), "Slice": ("lookup", 0)}
"""Operator type → what it does with a weight, and the position of the input that may be one."""
INTEGER_PRODUCTS = {"DynamicQuantizeMatMul": (2, 3, 4), "MatMulIntegerToFloat": (3, 5, 6), "MatMulNBits": (2, 3, 5)}
"""Operators that multiply an activation by integers, at position 1, and give out floats → positions of the integers'
scale, of their zero point, and of a bias."""
PACKED = {"GatherBlockQuantized": 0, "MatMulNBits": 1}
"""Operators that read 4-bit integers, two a byte, and their position."""
DOMAINS = dict.fromkeys((*INTEGER_PRODUCTS, *PACKED), CONTRIB)
"""Operators of another domain than ONNX' own that are known by their plain name."""
BLOCKS = {"bits": 4, "block_size": integers.BLOCK}
SETTINGS: dict[str, dict[str, Any]] = {
    "Cast": {"to": 1},
    "DynamicQuantizeMatMul": {},
    "GatherBlockQuantized": {**BLOCKS, "gather_axis": 0, "quantize_axis": 1},
    "MatMulIntegerToFloat": {},
    "MatMulNBits": BLOCKS,
    "Mul": {},
    "QuantizeLinear": {},
}
"""Operators that stand for a number format → the settings with which they are written, sizes aside."""
OPERANDS = {
    "DynamicQuantizeMatMul": {0, 1, 2, 3, 4},
    "GatherBlockQuantized": {0, 1, 2},
    "MatMulIntegerToFloat": {0, 1, 2, 3, 4, 5, 6},
    "MatMulNBits": {0, 1, 2, 3, 5},
}
"""Positions of the inputs that are read when a format is taken away."""
VIEWS = ("Reshape", "Transpose")
"""Operators that give stored integers another shape."""
TABLES = {"GroupQueryAttention": (7, 8), "RotaryEmbedding": (2, 3)}
"""Operators that turn queries and keys → positions of the cosines and sines, which are no weights."""
SIZES = {"K", "N", "accuracy_level"}
"""Settings that say how large a packed weight is, and what it is multiplied by, which is a matter of what was asked."""
FLOATS, INTEGERS = 1, 4
"""Levels of accuracy of `MatMulNBits`: activations stay fp32, or are rounded to int8, 32 at a time, in every call. At
the default, hosts do either."""


@dataclass(frozen=True)
class Weight:
    """A float initialiser that a matrix product multiplies by or a lookup reads from.

    Attributes:
        name: of the initialiser.
        kind: one of `KINDS`, of its first reader.
        uses: how many operators read it at the position of a weight.
        elements: product of its shape.
        sliced: its first reader takes consecutive rows, as of positions.
    """

    name: str
    kind: str
    uses: int
    elements: int
    sliced: bool


def names(call: Call) -> tuple[list[str], list[str]]:
    """Name a graph's inputs and outputs: the call's, and where it keeps states, those before it and after it."""
    inputs, outputs = call.names
    if not call.states:
        return inputs, outputs
    states = [tensor.name for tensor in call.states]
    return [*inputs, MASK, *states], [*outputs, *map(following, states)]


def following(state: str) -> str:
    """Name the output that a state becomes."""
    return state.replace(PAST_VALUES, "present")


def load(path: Path) -> Any:
    """Read a `ModelProto` that holds its weights itself.

    Raises:
        ArtifactError: the file is missing, is not ONNX, or has data elsewhere.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError, ValueError) as error:
        raise ArtifactError(f"cannot read ONNX model '{path}': {error}", next_step="run `dvc repro`") from error
    outside = [item.name for item in model.graph.initializer if item.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        raise ArtifactError(f"'{path}' keeps '{outside[0]}' in another file", expected="all weights in the model's")
    return model


def write(model: Any, path: Path) -> None:
    """Check a model and write it; the same graph gives the same bytes.

    Raises:
        ArtifactError: `onnx.checker` refuses the graph, which would fail on another host than this one.
    """
    write_bytes(model.SerializeToString(deterministic=True), path)


def write_bytes(content: bytes, path: Path) -> None:
    """Check and write a model's serialised bytes, as `write` does: who lets go of it first holds it once less."""
    import onnx

    try:
        onnx.checker.check_model(content, full_check=False)
    except onnx.checker.ValidationError as error:
        raise ArtifactError(f"'{path.name}' is not valid ONNX: {str(error).splitlines()[0]}") from error
    path.write_bytes(content)


def clean(model: Any) -> None:
    """Drop in place what is not computation, then merge equal initialisers and drop unused ones.

    torch writes source paths into `metadata_props` (0.3 MB on two layers, and other bytes in another directory).
    Inferred shapes in `value_info` contradict the graph after quantisation, and ONNX Runtime then refuses it.
    torch folds the transpose of a weight once per use, so ALBERT's shared layer would be stored once per layer.
    """
    _strip(model)
    _merge_initializers(model.graph)
    _name_nodes(model.graph)


def operator(node: Any) -> str:
    """Name an operator with its domain, which is part of what it is: `Sigmoid` of another domain computes anything."""
    plain = node.domain == DOMAINS.get(node.op_type, "")
    return str(node.op_type) if plain else f"{node.domain}::{node.op_type}"


def changes_format(node: Any, op: str) -> bool:
    """Whether an operator is the one that quantisation writes under this name, with no setting or input of another."""
    if operator(node) != op:
        return False
    found = {key: value for key, value in attributes(node).items() if key not in SIZES}
    read = OPERANDS.get(op)
    unread = [name for position, name in enumerate(node.input) if read is not None and name and position not in read]
    return found == SETTINGS[op] and not unread


def weights(model: Any) -> list[Weight]:
    """List the float weights of matrix products and lookups, in graph order; a table that is both, twice."""
    import onnx

    # A table of one column holds the scales of another table, not vectors.
    floats = {
        item.name: item.dims[0] * item.dims[1]
        for item in model.graph.initializer
        if item.data_type == onnx.TensorProto.FLOAT and len(item.dims) == 2 and item.dims[1] > 1
    }
    found: dict[tuple[str, str], list[str]] = {}
    for node in model.graph.node:
        kind, position = READERS.get(operator(node), ("", 0))
        if kind and node.input[position] in floats:
            found.setdefault((node.input[position], kind), []).append(operator(node))
    return [Weight(name, kind, len(ops), floats[name], sliced=ops[0] == "Slice") for (name, kind), ops in found.items()]


def expansions(model: Any) -> dict[str, tuple[str, str]]:
    """List fp32 values that are made of one smaller initialiser, by `Cast`, or by `Mul` with a scale after it.

    Returns:
        Value → the initialiser, and the scale, '' where there is none.
    """
    stored = {item.name: item.data_type for item in model.graph.initializer}
    found: dict[str, tuple[str, str]] = {}
    for node in model.graph.node:
        if changes_format(node, "Cast") and stored.get(node.input[0]) in _small_types():
            found[node.output[0]] = node.input[0], ""
        elif changes_format(node, "Mul") and node.input[0] in found and node.input[1] in stored:
            found[node.output[0]] = found[node.input[0]][0], node.input[1]
    return found


def halves(model: Any) -> dict[str, str]:
    """List fp32 values that are made of an initialiser of 16 bits: value → initialiser."""
    import onnx

    half = {item.name for item in model.graph.initializer if item.data_type == onnx.TensorProto.FLOAT16}
    made = (node for node in model.graph.node if changes_format(node, "Cast") and node.input[0] in half)
    return {node.output[0]: node.input[0] for node in made}


def views(model: Any) -> dict[str, str]:
    """List other shapes of stored integers, which ONNX Runtime makes when it opens a model: value → initialiser.

    A table that is looked up and multiplied by is stored once, and turned or reshaped for one of the two.
    """
    small = {item.name for item in model.graph.initializer if item.data_type in _small_types()}
    made = (node for node in model.graph.node if operator(node) in VIEWS and node.input[0] in small)
    return {node.output[0]: node.input[0] for node in made}


def viewed(model: Any, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return initialisers together with the `views` of them."""
    found, nodes = dict(arrays), {node.output[0]: node for node in model.graph.node}
    for value, source in views(model).items():
        if source in arrays:
            turned = operator(nodes[value]) == "Transpose"
            found[value] = arrays[source].T if turned else arrays[source].reshape(arrays[nodes[value].input[1]])
    return found


def float_matrices(model: Any, smallest: int) -> list[str]:
    """List fp32 initialisers of two dimensions and at least so many elements; scales and rotations aside."""
    import onnx

    aside = {node.input[2] for node in model.graph.node if operator(node) in PACKED} | rotations(model)
    return [
        item.name
        for item in model.graph.initializer
        if item.data_type == onnx.TensorProto.FLOAT
        and len(item.dims) > 1
        and min(item.dims) > 1
        and prod(item.dims) >= smallest
        and item.name not in aside
    ]


def rotations(model: Any) -> set[str]:
    """Name the initialisers that queries and keys are turned by."""
    read = ((node, at) for node in model.graph.node for at in TABLES.get(node.op_type, ()))
    return {node.input[at] for node, at in read if at < len(node.input)}


def compressed_uses(model: Any) -> Counter[str]:
    """Count the operators that read weights of 16 bits or fewer: `lookup of 8 bits` → how many."""
    types = _small_types()
    small = {item.name: types[item.data_type] for item in model.graph.initializer if item.data_type in types}
    small |= {value: small[source] for value, source in views(model).items()}
    expanded = {value: small[stored] for value, (stored, _) in expansions(model).items()}
    found: Counter[str] = Counter()
    for node in model.graph.node:
        kind, position = READERS.get(operator(node), ("", 0))
        if operator(node) in PACKED or operator(node) in INTEGER_PRODUCTS:
            kind, position = ("product", 1) if operator(node) in INTEGER_PRODUCTS else ("lookup", 0)
            bits = 4 if operator(node) in PACKED else 8
            found[f"{kind} of {bits} bits"] += node.input[position] in small
        elif kind:
            read = node.input[position]
            bits = expanded.get(read, 0 if kind == "product" else small.get(read, 0))
            found[f"{kind} of {bits} bits"] += bits > 0
    return +found


def integer_operands(node: Any) -> tuple[str, str, str]:
    """Names of the weight's scale, its zero point and the bias of an integer product, '' for those it has not."""
    scale, zero, bias = (node.input[at] if at < len(node.input) else "" for at in INTEGER_PRODUCTS[operator(node)])
    return scale, zero, bias


def attributes(node: Any) -> dict[str, Any]:
    """Settings of an operator by name."""
    from onnx import helper, numpy_helper

    found = {}
    for item in node.attribute:
        value = helper.get_attribute_value(item)
        if hasattr(value, "raw_data"):
            array = numpy_helper.to_array(value)
            value = f"{array.dtype} {list(array.shape)} {array.tolist()}"
        found[item.name] = value
    return found


def gemm_settings(node: Any) -> dict[str, Any]:
    """Settings of a Gemm, those included that it leaves at what ONNX defines."""
    return {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0} | attributes(node)


def replace_nodes(graph: Any, nodes: Iterable[Any]) -> None:
    """Make `nodes`, some of which the graph may hold already, the graph's nodes."""
    kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)


def replace_initializers(graph: Any, kept: Iterable[Any]) -> None:
    """Make `kept` the graph's initialisers, sorted by name."""
    ordered = sorted(kept, key=lambda item: item.name)
    del graph.initializer[:]
    graph.initializer.extend(ordered)


def _small_types() -> dict[int, int]:
    """Types that weights are compressed to → bits of a number."""
    import onnx

    return {onnx.TensorProto.FLOAT16: 16, onnx.TensorProto.INT8: 8, onnx.TensorProto.UINT8: 8}


def _strip(model: Any) -> None:
    graph = model.graph
    model.doc_string = graph.doc_string = model.producer_version = ""
    del model.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    for item in (*graph.input, *graph.output, *graph.initializer, *graph.node):
        item.doc_string = ""
        del item.metadata_props[:]
    used = {node.domain for node in graph.node}
    opsets = sorted((item for item in model.opset_import if item.domain in used), key=lambda item: item.domain)
    del model.opset_import[:]
    model.opset_import.extend(opsets)


def _merge_initializers(graph: Any) -> None:
    first: dict[bytes, str] = {}
    same: dict[str, str] = {}
    for item in graph.initializer:
        name, item.name = item.name, ""
        content = hashlib.sha256(item.SerializeToString(deterministic=True)).digest()
        item.name = name
        same[name] = first.setdefault(content, name)
    for node in graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = same.get(name, name)
    used = {name for node in graph.node for name in node.input} | {item.name for item in graph.output}
    # In place: what is copied out of a protobuf message stays in its memory too.
    for position in reversed(range(len(graph.initializer))):
        if graph.initializer[position].name not in used:
            del graph.initializer[position]
    graph.initializer.sort(key=lambda item: item.name)


def _name_nodes(graph: Any) -> None:
    # Quantisers address nodes by name; two of one name would be quantised or skipped together.
    for position, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{position}"
