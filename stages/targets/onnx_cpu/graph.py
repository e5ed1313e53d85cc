"""Read, clean and write ONNX graphs so that equal models have equal bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core.errors import ArtifactError

MODEL = "model.onnx"
WEIGHT_INPUT = {"MatMul": 1, "Gemm": 1, "Gather": 0}
"""Operator type → position of the input that may be a weight."""


@dataclass(frozen=True)
class Weight:
    """A float initialiser that a matrix product multiplies by or a lookup reads from.

    Attributes:
        name: of the initialiser.
        op: MatMul, Gemm or Gather, of its first consumer.
        nodes: names of the consumers at `WEIGHT_INPUT`.
        shape: of the tensor.
        elements: product of `shape`.
    """

    name: str
    op: str
    nodes: tuple[str, ...]
    shape: tuple[int, ...]
    elements: int


def load(path: Path) -> Any:
    """Read a `ModelProto`.

    Raises:
        ArtifactError: the file is missing or is not ONNX.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        return onnx.load(path, load_external_data=False)
    except (OSError, DecodeError, ValueError) as error:
        raise ArtifactError(f"cannot read ONNX model '{path}': {error}", next_step="run `dvc repro`") from error


def write(model: Any, path: Path) -> None:
    """Check a model and write it; the same graph gives the same bytes.

    Raises:
        ArtifactError: `onnx.checker` refuses the graph, which would fail on another host than this one.
    """
    import onnx

    try:
        onnx.checker.check_model(model, full_check=False)
    except onnx.checker.ValidationError as error:
        raise ArtifactError(f"'{path.name}' is not valid ONNX: {str(error).splitlines()[0]}") from error
    path.write_bytes(model.SerializeToString(deterministic=True))


def clean(model: Any) -> None:
    """Drop in place what is not computation, then merge equal initialisers and drop unused ones.

    torch writes source paths into `metadata_props` (0.3 MB on two layers, and other bytes in another directory).
    Inferred shapes in `value_info` contradict the graph after quantisation, and ONNX Runtime then refuses it.
    torch folds the transpose of a weight once per use, so ALBERT's shared layer would be stored once per layer.
    """
    _strip(model)
    _merge_initializers(model.graph)
    _name_nodes(model.graph)


def weights(model: Any) -> list[Weight]:
    """List the float weights of matrix products and lookups, in graph order."""
    import onnx

    # A table of one column holds the scales of another table, not vectors.
    floats = {
        item.name: item
        for item in model.graph.initializer
        if item.data_type == onnx.TensorProto.FLOAT and len(item.dims) == 2 and item.dims[1] > 1
    }
    uses: dict[str, list[Any]] = {}
    for node in model.graph.node:
        position = WEIGHT_INPUT.get(node.op_type)
        if position is not None and (name := node.input[position]) in floats:
            uses.setdefault(name, []).append(node)
    return [
        Weight(
            name=name,
            op=nodes[0].op_type,
            nodes=tuple(node.name for node in nodes),
            shape=(shape := tuple(floats[name].dims)),
            elements=shape[0] * shape[1],
        )
        for name, nodes in uses.items()
    ]


def integer_uses(model: Any) -> Counter[str]:
    """Count the matrix products and lookups that work on 8-bit integer weights.

    Returns:
        `MatMul`: `MatMulInteger` nodes; `MatMul` and `Gemm`: nodes both of whose factors are dequantised integers,
        which ONNX Runtime fuses to one integer kernel; `Gather`: lookups in an integer table.
    """
    import onnx

    kinds = {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    integers = {item.name for item in model.graph.initializer if item.data_type in kinds}
    expanded = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    found: Counter[str] = Counter()
    for node in model.graph.node:
        if node.op_type == "MatMulInteger" and node.input[1] in integers:
            found["MatMul"] += 1
        elif node.op_type in {"MatMul", "Gemm"} and set(node.input[:2]) <= expanded:
            found[node.op_type] += 1
        elif node.op_type == "Gather" and node.input[0] in integers:
            found["Gather"] += 1
    return found


def replace_initializers(graph: Any, kept: Iterable[Any]) -> None:
    """Make `kept` the graph's initialisers, sorted by name."""
    ordered = sorted(kept, key=lambda item: item.name)
    del graph.initializer[:]
    graph.initializer.extend(ordered)


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
    kept = {}
    for item in graph.initializer:
        name, item.name = item.name, ""
        content = item.SerializeToString(deterministic=True)
        item.name = name
        same[name] = first.setdefault(content, name)
        kept[name] = item
    for node in graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = same.get(name, name)
    used = {name for node in graph.node for name in node.input} | {item.name for item in graph.output}
    replace_initializers(graph, [item for name, item in kept.items() if name in used])


def _name_nodes(graph: Any) -> None:
    # Quantisers address nodes by name; two of one name would be quantised or skipped together.
    for position, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{position}"
