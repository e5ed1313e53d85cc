"""Open `model.tflite` for damage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np

from stages.injecting.hidden import TEXT
from stages.injecting.tensor import MISPLACED, Tensor
from stages.injecting.tflite_decoding import DECODING
from stages.targets.tflite_nnapi import flatbuffer, storage, stored
from stages.targets.tflite_nnapi.structure import FIXED


class ArtifactEditor:
    """A model whose buffers are handed out as tensors, each once for all signatures that share it."""

    def __init__(self, artifact: Path) -> None:
        """Read the model of an artifact directory."""
        self._path = artifact / flatbuffer.MODEL
        self._model = flatbuffer.read(self._path)
        self._tensors: dict[int, Tensor] = {}
        self._users: dict[int, list[Any]] = {}
        self._blocks: dict[int, Any] = {}
        self._types: dict[int, str] = {}
        for graph, item, dtype in stored.weights(self._model):
            self._users.setdefault(item.buffer, []).append(item)
            if item.buffer not in self._tensors:
                self._types[item.buffer] = dtype
                self._blocks[item.buffer] = storage.block_scales(self._model, graph, item)
                self._tensors[item.buffer] = Tensor.of(stored.read(self._model, graph, item, dtype))

    def tensors(self) -> Iterable[Tensor]:
        """List float and quantised buffers."""
        return list(self._tensors.values())

    def replace_operator(self, others: Mapping[str, str]) -> bool:
        """Change operator codes; options go with the old one."""
        codes = {name: number for number, name in flatbuffer.operator_names().items()}
        found = False
        for graph in self._model.subgraphs:
            for name, operator in flatbuffer.operators_of(self._model, graph):
                if name in others:
                    found = True
                    operator.builtinOptions, operator.builtinOptionsType = None, 0
        for code in self._model.operatorCodes:
            name = flatbuffer.operator_names()[max(code.builtinCode, code.deprecatedBuiltinCode)]
            if name in others:
                code.builtinCode = codes[others[name]]
                code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        return found

    def set_epsilon(self, value: float) -> None:
        """Change the scalar that is added to each variance."""
        positive = [tensor for tensor in self._tensors.values() if _is_epsilon(tensor)]
        for tensor in positive:
            if tensor.scale is None:
                tensor.levels[...] = value
            else:
                tensor.scale[...] = value / 127
                tensor.levels[...] = np.rint(127 + (0 if tensor.zero is None else tensor.zero))

    def misplace_grid(self) -> bool:
        """Move the zero point of the first fully connected layer's result."""
        for graph in self._model.subgraphs:
            for name, operator in flatbuffer.operators_of(self._model, graph):
                quantization = graph.tensors[operator.outputs[0]].quantization
                if name == "FULLY_CONNECTED" and quantization is not None and quantization.zeroPoint is not None:
                    zero = quantization.zeroPoint
                    quantization.zeroPoint = np.where(zero < 0, zero + MISPLACED, zero - MISPLACED)
                    return True
        return False

    def tamper(self, kind: str) -> bool:
        """Change what stands beside the buffers."""
        if kind in DECODING:
            return DECODING[kind](self._model, self._tensors)
        done = TAMPERING.get(kind)
        return done is not None and done(self._model)

    def save(self) -> None:
        """Write buffers, scales and zero points back."""
        for index, tensor in self._tensors.items():
            self._model.buffers[index].data = storage.pack(self._types[index], tensor.levels)
            blocks = self._blocks[index]
            if blocks is not None and tensor.scale is not None:
                blocks.data = storage.pack("FLOAT16", tensor.scale.astype(np.float16))
                continue
            for item in self._users[index]:
                if tensor.scale is not None:
                    item.quantization.scale = tensor.scale.reshape(-1).astype(np.float32)
                if tensor.zero is not None:
                    item.quantization.zeroPoint = tensor.zero.reshape(-1).astype(np.int64)
        flatbuffer.write(self._model, self._path)


def _is_epsilon(tensor: Tensor) -> bool:
    """A scalar no larger than any model's epsilon; quantised ones are known by their step."""
    largest = float(np.abs(tensor.value).max()) if tensor.scale is None else 127 * float(tensor.scale.max())
    return tensor.levels.size == 1 and 0 < largest <= 1e-4


def _exchange_inputs(model: Any) -> bool:
    for graph in model.subgraphs:
        graph.inputs = np.asarray(graph.inputs)[::-1].copy()
    return True


def _add_entry(model: Any) -> bool:
    entry = copy(model.signatureDefs[0])
    entry.signatureKey = b"another"
    model.signatureDefs.append(entry)
    return True


def _add_text(model: Any) -> bool:
    flatbuffer.add_metadata(model, "comment", TEXT.encode())
    return True


def _add_weight(model: Any) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    tensor = schema.TensorT()
    tensor.name, tensor.shape = b"leftover", np.array([8, 8], np.int32)
    tensor.buffer = flatbuffer.add_buffer(model, np.zeros((8, 8), np.float32))
    flatbuffer.add_tensor(model.subgraphs[0], tensor)
    return True


def _widen_grid(model: Any) -> bool:
    found = False
    for graph in model.subgraphs:
        for name, operator in flatbuffer.operators_of(model, graph):
            grid = graph.tensors[operator.outputs[0]].quantization
            if name in FIXED and grid is not None and grid.scale is not None:
                grid.scale, found = np.asarray(grid.scale) * 4, True
    return found


TAMPERING: dict[str, Callable[[Any], bool]] = {
    "exchanged_inputs": _exchange_inputs,
    "second_entry": _add_entry,
    "text": _add_text,
    "unread_weight": _add_weight,
    "widened_grid": _widen_grid,
}
"""Kind of `hidden.WHAT` → how it is done; whether it could be."""
