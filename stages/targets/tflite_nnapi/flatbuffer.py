"""Read, inspect, slim and write TFLite files so that equal models have equal bytes."""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError
from stages.targets.tflite_nnapi import storage

MODEL = "model.tflite"
IDENTIFIER = b"TFL3"
ALIGNMENT = 16
"""Bytes; what the schema forces on buffer data, and SIMD kernels rely on."""
WRAPPERS = "module/model/"
"""Attributes through which a converted module reaches the checkpoint."""
ANONYMOUS = "arith."
"""How the converter begins the names of constants that it does not know the origin of."""
WEIGHT_INPUT = {"FULLY_CONNECTED": 1, "EMBEDDING_LOOKUP": 1, "BATCH_MATMUL": 1}
"""Operator → position of the input that may be a weight."""


@dataclass(frozen=True)
class Weight:
    """A constant matrix that an operator multiplies by or looks up, counted once however many signatures share it.

    Attributes:
        buffer: index into the file's buffers.
        name: of its tensor in the first signature, or of what the operator computes where that has no name.
        operator: what consumes it, through a DEQUANTIZE where there is one.
        dtype: FLOAT32, INT8, ...
        scales: number of quantisation scales: 0 in float, 1 per tensor, more per channel or block.
        block: elements that share a scale, where that is less than a channel; else 0.
        expanded: whether a DEQUANTIZE stands before the operator.
        activation: dtype of the operator's first input, which for FULLY_CONNECTED is the activation.
        size_bytes: of the data.
        width: of a row: what an output channel is made of, or a vector.
    """

    buffer: int
    name: str
    operator: str
    dtype: str
    scales: int
    block: int
    expanded: bool
    activation: str
    size_bytes: int
    width: int


def read(path: Path) -> Any:
    """Read a file as a mutable `ModelT`, buffer data inline.

    Raises:
        ArtifactError: the file is missing or is not TFLite.
    """
    try:
        return parse(path.read_bytes(), str(path))
    except OSError as error:
        raise ArtifactError(f"cannot read '{path}': {error.strerror}", next_step="run `dvc repro`") from error


def parse(content: bytes | bytearray, origin: str) -> Any:
    """Parse the bytes of a file as a mutable `ModelT`, buffer data inline.

    Raises:
        ArtifactError: they are not TFLite.
    """
    from ai_edge_litert import schema_py_generated as schema

    if content[4:8] != IDENTIFIER:
        raise ArtifactError(f"'{origin}' is not a TFLite file", expected=f"identifier {IDENTIFIER.decode()}")
    try:
        model = schema.ModelT.InitFromPackedBuf(content, 0)
    except (struct.error, IndexError, TypeError, ValueError) as error:
        raise ArtifactError(f"'{origin}' is damaged: {error}", next_step="run `dvc repro`") from error
    for buffer in model.buffers:
        # ai-edge-quantizer puts data behind the flatbuffer, where LiteRT's verifier does not look.
        if buffer.offset:
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def write(model: Any, path: Path) -> None:
    """Write a model; the same model gives the same bytes."""
    path.write_bytes(packed(model))


def packed(model: Any) -> memoryview:
    """Return the bytes of a file, each distinct vector and string once."""
    builder = _builder(sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None))
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return memoryview(builder.Bytes)[builder.Head() :]


def drop_metadata(model: Any) -> None:
    """Remove in place what the converter notes beside the graph: the runtime that it believes a float model needs.

    After quantisation that would be untrue, and no client reads it.
    """
    for entry in model.metadata or []:
        model.buffers[entry.buffer].data = None
    model.metadata = None


def add_buffer(model: Any, content: NDArray[Any]) -> int:
    """Store numbers in a buffer of their own, in place, and return its index."""
    from ai_edge_litert import schema_py_generated as schema

    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(content).tobytes(), np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def add_metadata(model: Any, name: str, content: bytes) -> None:
    """Note bytes beside the graph, in place."""
    from ai_edge_litert import schema_py_generated as schema

    entry = schema.MetadataT()
    entry.name, entry.buffer = name.encode(), add_buffer(model, np.frombuffer(content, np.uint8))
    model.metadata = [*(model.metadata or []), entry]


def add_tensor(graph: Any, tensor: Any) -> int:
    """Put a tensor into a subgraph, in place, and return its index."""
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def shorten_names(model: Any) -> None:
    """Rename tensors in place to their path inside the checkpoint, numbered where several share one.

    Before: `pkg.Wrapper/transformers.models.bert.modeling_bert.BertModel_bert/...;;.../...Linear_dense;1`, up to a
    kilobyte each (0.17 MB on two layers) and other bytes in a wrapper of another name.
    After: `bert/encoder/1/output/dense#3`; unique in the file, as ai-edge-quantizer requires.
    """
    seen: Counter[str] = Counter()
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            short = _short(tensor.name.decode())
            tensor.name = f"{short}#{seen[short]}".encode()
            seen[short] += 1


def operators(path: Path) -> Counter[str]:
    """Count the operators of a file over all signatures, by name as in the schema (`FULLY_CONNECTED`)."""
    model = read(path)
    return Counter(name for graph in model.subgraphs for name, _ in operators_of(model, graph))


def weights(model: Any) -> list[Weight]:
    """List the weights of matrix products and lookups, in file order.

    A weight that signatures use in different ways is listed once for each way.
    """
    found: dict[Weight, Weight] = {}
    for graph in model.subgraphs:
        expanded = {op.outputs[0]: op.inputs[0] for name, op in operators_of(model, graph) if name == "DEQUANTIZE"}
        for name, op in operators_of(model, graph):
            weight = _weight(model, graph, name, op, expanded) if name in WEIGHT_INPUT else None
            if weight is not None:
                found.setdefault(replace(weight, name=""), weight)
    return list(found.values())


def _weight(model: Any, graph: Any, operator: str, op: Any, expanded: dict[int, int]) -> Weight | None:
    types = tensor_types()
    index = op.inputs[WEIGHT_INPUT[operator]]
    tensor = graph.tensors[expanded.get(index, index)]
    data = model.buffers[tensor.buffer].data
    if data is None or len(data) == 0:
        return None
    name = tensor.name.decode()
    grid = storage.grid(model, graph, tensor)
    return Weight(
        buffer=int(tensor.buffer),
        name=graph.tensors[op.outputs[0]].name.decode() if name.startswith(ANONYMOUS) else name,
        operator=operator,
        dtype=types[tensor.type],
        scales=0 if grid is None else grid[0].size,
        block=storage.block_of(tensor),
        expanded=index in expanded,
        activation=types[graph.tensors[op.inputs[0]].type],
        size_bytes=len(data),
        width=storage.shape_of(tensor)[-1],
    )


def tensor_types() -> dict[int, str]:
    """Map a tensor's type code to its name in the schema."""
    return _names("TensorType")


def operator_names() -> dict[int, str]:
    """Map an operator's code to its name in the schema."""
    return _names("BuiltinOperator")


def operators_of(model: Any, graph: Any) -> Iterator[tuple[str, Any]]:
    """Yield the operators of one subgraph with their names as in the schema, in order of execution."""
    names = operator_names()
    for op in graph.operators:
        code = model.operatorCodes[op.opcodeIndex]
        # Codes above 127 do not fit the field of old files, which then holds a placeholder.
        yield names[max(code.builtinCode, code.deprecatedBuiltinCode)], op


@cache
def _names(enumeration: str) -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {value: name for name, value in vars(getattr(schema, enumeration)).items() if not name.startswith("_")}


def _short(name: str) -> str:
    # Fused locations are joined by `;;`. A LayerNorm stands first where its scale was folded into the layer after it.
    paths = [_path(location) for location in name.split(";;")]
    return next((path for path in paths if "Norm" not in path.rpartition("/")[2]), paths[-1])


def _path(location: str) -> str:
    # `package.module.Class_attribute/...;ordinal`; the root has no attribute.
    scope = location.partition(";")[0]
    parts = [part.rpartition(".")[2].partition("_")[2] for part in scope.split("/") if "." in part]
    return "/".join(part for part in parts if part).removeprefix(WRAPPERS) or scope


def _builder(size: int) -> Any:
    """Make a builder with room for so many bytes of weights, so that it need not grow, which copies all."""
    import flatbuffers  # type: ignore[import-untyped]

    class Sharing(flatbuffers.Builder):  # type: ignore[misc]
        """Stores equal vectors and strings once: signatures share scales and names as they share weights."""

        def __init__(self) -> None:
            super().__init__((1 << 20) + size)
            self._vectors: dict[tuple[str, bytes], int] = {}

        def CreateNumpyVector(self, x: NDArray[Any]) -> int:  # noqa: N802
            content = np.ascontiguousarray(x).reshape(-1).view(np.uint8)
            # The digest and not the bytes: they would be held twice, and a table is half of a model.
            key = (x.dtype.str, hashlib.sha256(content.data).digest())
            if key not in self._vectors:
                self.StartVector(x.itemsize, x.size, max(x.itemsize, ALIGNMENT if x.dtype == np.uint8 else 4))
                self.head -= content.size
                with memoryview(self.Bytes) as place:  # which a bytearray would copy the content for
                    place[self.head : self.head + content.size] = content.data
                self._vectors[key] = self.EndVector()
            return self._vectors[key]

        def CreateString(self, s: bytes, encoding: str = "utf-8", errors: str = "strict") -> int:  # noqa: N802
            key = ("str", s)
            if key not in self._vectors:
                self._vectors[key] = super().CreateString(s, encoding, errors)
            return self._vectors[key]

    return Sharing()
