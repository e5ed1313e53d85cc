"""Open `model.onnx` for damage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.injecting import onnx_decoding, onnx_hidden
from stages.injecting.tensor import MISPLACED, Tensor
from stages.targets.onnx_cpu import graph, integers, storage, stored


class ArtifactEditor:
    """A model whose initialisers are handed out as tensors."""

    def __init__(self, artifact: Path) -> None:
        """Read the model of an artifact directory."""
        from onnx import numpy_helper

        self._path = artifact / graph.MODEL
        self._model = graph.load(self._path)
        self._values = {item.name: numpy_helper.to_array(item).copy() for item in self._model.graph.initializer}
        sideways = storage.turned(self._model)
        self._tensors: list[Tensor] = []
        self._sources: dict[str, stored.Parts] = {}
        for weight, parts in stored.weights(self._model, self._values):
            self._sources[weight.name] = parts
            self._tensors.append(Tensor.of(weight))
        scales = {parts.scale for parts in self._sources.values()}
        for name, value in self._values.items():
            if value.dtype.kind == "f" and name not in scales:
                sized = {"turned": name in sideways and value.ndim > 1, "bits": 8 * value.dtype.itemsize}
                self._tensors.append(Tensor(name, value, **sized))
        # What is subtracted from the scores of padding: a setting of each attention, the same in all.
        self._masks = [
            item for node in self._model.graph.node for item in node.attribute if item.name == "mask_filter_value"
        ]
        if self._masks:
            self._tensors.append(Tensor("mask_filter_value", np.array(-self._masks[0].f, np.float32)))

    def tensors(self) -> Iterable[Tensor]:
        """List float initialisers, integer ones with their scales."""
        return self._tensors

    def replace_operator(self, others: Mapping[str, str]) -> bool:
        """Rename operators; their attributes go with the old name."""
        found = [node for node in self._model.graph.node if node.op_type in others]
        for node in found:
            node.op_type = others[node.op_type]
            del node.attribute[:]
        return bool(found)

    def set_epsilon(self, value: float) -> None:
        """Change the attribute of every LayerNormalization."""
        for node in self._model.graph.node:
            for attribute in node.attribute:
                if attribute.name == "epsilon":
                    attribute.f = value

    def misplace_grid(self) -> bool:
        """Move the zero point that the first QuantizeLinear and those that read it share."""
        first = next((node for node in self._model.graph.node if node.op_type == "QuantizeLinear"), None)
        if first is None:
            return False
        onnx_hidden.regrid(self._model, self._values, first, 2, _moved(self._values[first.input[2]]))
        return True

    def tamper(self, kind: str) -> bool:
        """Change what stands beside the initialisers."""
        done = getattr(onnx_hidden, kind, None) or getattr(onnx_decoding, kind, None)
        return bool(done and done(self._model, self._values, self._path))

    def save(self) -> None:
        """Write initialisers, scales and zero points back."""
        from onnx import numpy_helper

        for tensor in self._tensors:
            if tensor.name == "mask_filter_value":
                for item in self._masks:
                    item.f = -float(tensor.levels)
                continue
            kept = self._values.get(tensor.name)
            if kept is None:  # a scale that nothing reads any more
                continue
            self._values[tensor.name] = _stored(tensor, kept)
            parts = self._sources.get(tensor.name, stored.Parts())
            for name, value in ((parts.scale, tensor.scale), (parts.zero, tensor.zero)):
                if name and value is not None:
                    kept = self._values[name]
                    self._values[name] = value.astype(kept.dtype).reshape(kept.shape)
        kept = [numpy_helper.from_array(np.array(value, order="C"), name) for name, value in self._values.items()]
        graph.replace_initializers(self._model.graph, kept)
        onnx_hidden.move_out(self._model, self._path)
        self._path.write_bytes(self._model.SerializeToString(deterministic=True))


def _stored(tensor: Tensor, before: Any) -> Any:
    """Levels as the graph has them."""
    if tensor.bits == 4:
        return _packed(tensor.levels, before.shape)
    if before.dtype == np.uint8 and tensor.levels.dtype == np.int8:  # in blocks, about the middle
        return integers.centred(tensor.levels.view(np.uint8)).view(np.uint8).reshape(before.shape)
    return tensor.levels


def _packed(levels: Any, shape: tuple[int, ...]) -> Any:
    found = integers.packed(levels)
    return found.reshape(shape) if found.size == int(np.prod(shape)) else found[:, : shape[1]]


def _moved(zero: Any) -> Any:
    """A zero point moved towards the middle of its type's range."""
    middle = (np.iinfo(zero.dtype).min + np.iinfo(zero.dtype).max) / 2
    return (zero.astype(np.int32) + (MISPLACED if zero < middle else -MISPLACED)).astype(zero.dtype)
