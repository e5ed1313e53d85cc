"""Write TFLite graphs operator by operator, what several signatures read stored once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

VERSIONS = {"FULLY_CONNECTED": 5}
"""Operator → its version, where that is not 1: of a FULLY_CONNECTED that keeps its input's axes."""
DESCRIPTION = b"Tinsmith"
SCHEMA = 3
FEW = 16
"""Numbers of a constant that is known by them and not by its name: axes and shapes have none."""
Shape = Sequence[int]


class File:
    """A model under construction: its constants, and the operators that it uses."""

    def __init__(self) -> None:
        """Start with the empty buffer that the format wants first."""
        from ai_edge_litert import schema_py_generated as schema

        self._schema = schema
        self._buffers = [schema.BufferT()]
        self._constants: dict[tuple[str, tuple[int, ...], bytes], int] = {}
        self._codes: dict[str, int] = {}
        self._seen: Counter[str] = Counter()
        self._entries: list[Entry] = []

    def register(self, entry: Entry) -> int:
        """Take a signature in, and return how many there were before it."""
        self._entries.append(entry)
        return len(self._entries) - 1

    def buffer(self, name: str, value: NDArray[Any]) -> int:
        """Return the buffer of a constant: one for all that have its name, or its few numbers."""
        content = name.encode() if value.size > FEW else value.tobytes()
        key = str(value.dtype), value.shape, content
        if key not in self._constants:
            buffer = self._schema.BufferT()
            buffer.data = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
            self._constants[key] = len(self._buffers)
            self._buffers.append(buffer)
        return self._constants[key]

    def unique(self, name: str) -> bytes:
        """Return a name that no other tensor has, in any signature: ai-edge-quantizer needs that."""
        self._seen[name] += 1
        return f"{name}#{self._seen[name] - 1}".encode()

    def code(self, kind: str) -> int:
        """Return the index of an operator's code."""
        return self._codes.setdefault(kind, len(self._codes))

    def model(self) -> Any:
        """Return the finished `ModelT`."""
        schema = self._schema
        model = schema.ModelT()
        model.version, model.description, model.buffers = SCHEMA, DESCRIPTION, self._buffers
        model.operatorCodes = []
        for kind in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode = getattr(schema.BuiltinOperator, kind)
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            code.version = VERSIONS.get(kind, 1)
            model.operatorCodes.append(code)
        model.subgraphs = [entry.graph() for entry in self._entries]
        model.signatureDefs = [entry.signature() for entry in self._entries]
        return model


@dataclass(frozen=True)
class Value:
    """A tensor of one signature.

    Attributes:
        index: in the subgraph.
        shape: of it.
    """

    index: int
    shape: tuple[int, ...]


@dataclass
class _Tensors:
    given: dict[str, Value] = field(default_factory=dict)
    returned: dict[str, Value] = field(default_factory=dict)
    constants: dict[int, Value] = field(default_factory=dict)


class Entry:
    """A signature under construction."""

    def __init__(self, file: File, name: str) -> None:
        """Start with nothing.

        Args:
            file: what it becomes a part of.
            name: of the signature.
        """
        from ai_edge_litert import schema_py_generated as schema

        self._schema, self._file, self._name, self._number = schema, file, name, file.register(self)
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._known = _Tensors()

    def given(self, name: str, shape: Shape, dtype: str = "FLOAT32") -> Value:
        """Take an input."""
        self._known.given[name] = self._tensor(name, shape, dtype, 0)
        return self._known.given[name]

    def returned(self, name: str, value: Value) -> None:
        """Give an output."""
        self._known.returned[name] = value

    def constant(self, name: str, value: NDArray[Any]) -> Value:
        """Hold a constant, fp32 or int32."""
        buffer = self._file.buffer(name, value)
        if buffer not in self._known.constants:
            dtype = {"f": "FLOAT32", "i": "INT32"}[value.dtype.kind]
            self._known.constants[buffer] = self._tensor(name, value.shape, dtype, buffer)
        return self._known.constants[buffer]

    def integers(self, name: str, *numbers: int) -> Value:
        """Hold a shape, an axis or places."""
        return self.constant(name, np.array(numbers, np.int32))

    def add(
        self,
        kind: str,
        inputs: Sequence[Value | None],
        name: str,
        shape: Shape,
        dtype: str = "FLOAT32",
        options: tuple[str, Mapping[str, Any]] | None = None,
    ) -> Value:
        """Append an operator and return its result.

        Args:
            kind: as in the schema.
            inputs: None for one that is left out.
            name: of the result.
            shape: of the result.
            dtype: of the result.
            options: name of the operator's table of options, and those that are not the format's defaults.
        """
        result = self._tensor(name, shape, dtype, 0)
        operator = self._schema.OperatorT()
        operator.opcodeIndex = self._file.code(kind)
        operator.inputs = np.array([-1 if one is None else one.index for one in inputs], np.int32)
        operator.outputs = np.array([result.index], np.int32)
        if options is not None:
            table, settings = options
            operator.builtinOptionsType = getattr(self._schema.BuiltinOptions, table)
            operator.builtinOptions = getattr(self._schema, f"{table}T")()
            for key, value in settings.items():
                setattr(operator.builtinOptions, key, value)
        self._operators.append(operator)
        return result

    def shaped(self, value: Value, name: str, shape: Shape, dtype: str = "FLOAT32") -> Value:
        """Give a value another shape."""
        wanted = self.integers("shape", *shape)
        return self.add("RESHAPE", [value, wanted], name, shape, dtype, ("ReshapeOptions", {}))

    def scaled(self, value: Value, name: str, factor: Value) -> Value:
        """Multiply by a value that may have fewer axes."""
        shape = np.broadcast_shapes(value.shape, factor.shape)
        return self.add("MUL", [value, factor], name, shape, options=("MulOptions", {}))

    def summed(self, value: Value, other: Value, name: str) -> Value:
        """Add a value that may have fewer axes."""
        shape = np.broadcast_shapes(value.shape, other.shape)
        return self.add("ADD", [value, other], name, shape, options=("AddOptions", {}))

    def reduced(self, value: Value, other: Value, name: str, activation: int = 0) -> Value:
        """Subtract a value that may have fewer axes, or more."""
        shape, settings = np.broadcast_shapes(value.shape, other.shape), {"fusedActivationFunction": activation}
        return self.add("SUB", [value, other], name, shape, options=("SubOptions", settings))

    def mean(self, value: Value, name: str) -> Value:
        """Average over the last axis, which is kept."""
        axis = self.integers("last_axis", len(value.shape) - 1)
        shape = [*value.shape[:-1], 1]
        return self.add("MEAN", [value, axis], name, shape, options=("ReducerOptions", {"keepDims": True}))

    def joined(self, values: Sequence[Value], name: str, dtype: str = "FLOAT32") -> Value:
        """Put values behind each other, along the last axis."""
        first = values[0].shape
        shape, axis = [*first[:-1], sum(value.shape[-1] for value in values)], len(first) - 1
        return self.add("CONCATENATION", values, name, shape, dtype, ("ConcatenationOptions", {"axis": axis}))

    def exchanged(self, value: Value, name: str) -> Value:
        """Exchange the two axes in the middle of four."""
        shape = [value.shape[at] for at in (0, 2, 1, 3)]
        order = self.integers("order", 0, 2, 1, 3)
        return self.add("TRANSPOSE", [value, order], name, shape, options=("TransposeOptions", {}))

    def multiplied(self, value: Value, other: Value, name: str, *, turned: bool) -> Value:
        """Multiply matrices in pairs, the second ones turned or not."""
        shape, settings = [*value.shape[:-1], other.shape[-2 if turned else -1]], {"adjY": turned}
        return self.add("BATCH_MATMUL", [value, other], name, shape, options=("BatchMatMulOptions", settings))

    def _tensor(self, name: str, shape: Shape, dtype: str, buffer: int) -> Value:
        tensor = self._schema.TensorT()
        tensor.name, tensor.shape = self._file.unique(name), np.array(shape, np.int32)
        tensor.type, tensor.buffer, tensor.hasRank = getattr(self._schema.TensorType, dtype), buffer, True
        self._tensors.append(tensor)
        return Value(len(self._tensors) - 1, tuple(shape))

    def graph(self) -> Any:
        """Return the subgraph."""
        graph = self._schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = self._name.encode(), self._tensors, self._operators
        graph.inputs, graph.outputs = (
            np.array([value.index for value in role.values()], np.int32)
            for role in (self._known.given, self._known.returned)
        )
        return graph

    def signature(self) -> Any:
        """Return what names the subgraph, its inputs and its outputs."""
        signature = self._schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = self._name.encode(), self._number
        signature.inputs, signature.outputs = (
            [self._named(name, value) for name, value in role.items()]
            for role in (self._known.given, self._known.returned)
        )
        return signature

    def _named(self, name: str, value: Value) -> Any:
        item = self._schema.TensorMapT()
        item.name, item.tensorIndex = name.encode(), value.index
        return item
