"""Read the constants of a TFLite file that stand for fractions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stages.targets.levels import Stored
from stages.targets.tflite_nnapi import flatbuffer, storage


def weights(model: Any) -> Iterator[tuple[Any, Any, str]]:
    """Yield subgraph, tensor and type of the constants that stand for fractions: floats, or integers with scales."""
    types = flatbuffer.tensor_types()
    for graph in model.subgraphs:
        for tensor in storage.constants(model, graph):
            dtype = types[tensor.type]
            if dtype in storage.FLOATS or storage.grid(model, graph, tensor) is not None:
                yield graph, tensor, dtype


def read(model: Any, graph: Any, tensor: Any, dtype: str) -> Stored:
    """Read a constant of a type as in the schema; floats have no scales, whatever stands beside them.

    Raises:
        KeyError: a type that no precision of ours has.
        ValueError: bytes that do not fill the shape, or scales that do not tile it.
    """
    name, data = tensor.name.decode(), model.buffers[tensor.buffer].data
    if data is None:
        raise ValueError(f"tensor '{name}' is neither computed nor stored")
    scale, zero = (dtype not in storage.FLOATS and storage.grid(model, graph, tensor)) or (None, None)
    return Stored(name, storage.unpack(dtype, storage.shape_of(tensor), data), scale, zero, bits=storage.bits(dtype))
