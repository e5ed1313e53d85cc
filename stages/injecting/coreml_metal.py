"""Open `model.mlpackage` for damage."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.packing import pack
from stages.coreml.dtypes import from_mil
from stages.coreml.values import Constants
from stages.injecting.coreml_decoding import DECODING
from stages.injecting.hidden import TEXT
from stages.injecting.tensor import Tensor
from stages.targets.coreml_metal import stored
from stages.targets.coreml_metal.package import PACKAGE, PROGRAM, WEIGHTS, operations, read_program

LOOKED_UP = {"gather", "slice_by_index", "softmax", "tanh"}


class ArtifactEditor:
    """A program whose constants and decompressions are handed out as tensors."""

    def __init__(self, artifact: Path) -> None:
        """Read the package of an artifact directory."""
        self._package = artifact / PACKAGE
        self._model = read_program(self._package)
        self._blobs = bytearray((self._package / WEIGHTS).read_bytes())
        self._constants = Constants((self._package / WEIGHTS).parent)
        self._stored: list[tuple[Tensor, dict[str, Any]]] = []
        for operation in operations(self._model):
            messages = {
                part: self._message(operation, key) for part, key in stored.PARTS.get(operation.type, {}).items()
            }
            values = {part: self._constants.read(message) for part, message in messages.items() if message is not None}
            kind = operation.outputs[-1].type.tensorType.dataType if operation.outputs else 0
            if "levels" in values and isinstance(values["levels"], np.ndarray) and from_mil(kind).kind == "float":
                bits = from_mil(messages["levels"].type.tensorType.dataType).bits
                own = {part: np.array(value) for part, value in values.items()}
                tensor = Tensor.of(stored.assembled(operation.outputs[0].name, own, bits))
                self._stored.append((tensor, messages))

    def tensors(self) -> Iterable[Tensor]:
        """List float constants, compressed ones with their scales or tables."""
        return [tensor for tensor, _ in self._stored]

    def replace_operator(self, others: Mapping[str, str]) -> bool:
        """Rename operations; only their operand stays."""
        found = [operation for operation in operations(self._model) if operation.type in others]
        for operation in found:
            operation.type = others[operation.type]
            for parameter in [name for name in operation.inputs if name != "x"]:
                del operation.inputs[parameter]
        return bool(found)

    def set_epsilon(self, value: float) -> None:
        """Change the constant that every normalisation reads."""
        names = {
            argument.name
            for operation in operations(self._model)
            if operation.type in ("layer_norm", "rsqrt")
            for argument in operation.inputs["epsilon"].arguments
        }
        for tensor in (tensor for tensor in self.tensors() if tensor.name in names):
            tensor.levels[...] = value

    def misplace_grid(self) -> bool:
        """Halve the scale that the first `quantize` and its `dequantize` agree on."""
        found = operations(self._model)
        first = next((one for one in found if one.type == "quantize"), None)
        if first is None:
            return False
        return self._scale_grid(first, 0.5)

    def _scale_grid(self, first: Any, factor: float) -> bool:
        name, found = first.outputs[0].name, operations(self._model)
        back = [one for one in found if one.type == "dequantize" and one.inputs["input"].arguments[0].name == name]
        for one in (first, *back):
            message = self._message(one, "scale")
            self._write(message, np.asarray(self._constants.read(message)) * factor)
        return True

    def tamper(self, kind: str) -> bool:
        """Change what stands beside the numbers."""
        if kind in DECODING:
            return DECODING[kind](self._model, self.tensors(), self._blobs)
        model = self._model
        main = model.mlProgram.functions["main"]
        match kind:
            case "exchanged_inputs":
                items = list(model.description.input)[::-1]
                del model.description.input[:]
                model.description.input.extend(items)
            case "second_entry":
                model.mlProgram.functions["another"].CopyFrom(main)
            case "text":
                model.description.metadata.userDefined["comment"] = TEXT
            case "unread_weight":
                self._add_constant(main.block_specializations[main.opset])
            case "widened_grid":
                return self._widen_grid()
            case _:
                return False
        return True

    def _add_constant(self, block: Any) -> None:
        """Repeat a constant under a name that nothing reads."""
        source = next(one for one in block.operations if one.type == "const")
        added = block.operations.add()
        added.CopyFrom(source)
        added.outputs[0].name = "leftover"

    def _widen_grid(self) -> bool:
        """Make the step after a lookup, tanh or softmax four times as long, on both sides."""
        found = operations(self._model)
        makers = {item.name: one.type for one in found for item in one.outputs}
        pairs = (one for one in found if one.type == "quantize")
        first = next((one for one in pairs if makers.get(one.inputs["input"].arguments[0].name) in LOOKED_UP), None)
        return first is not None and self._scale_grid(first, 4)

    def save(self) -> None:
        """Write numbers, scales and tables back to where they stood."""
        for tensor, messages in self._stored:
            for part, message in messages.items():
                value = getattr(tensor, part)
                if part == "levels" and tensor.mask is not None:
                    value = value[tensor.mask != 0]
                if message is not None and value is not None:
                    self._write(message, value)
        (self._package / PROGRAM).write_bytes(self._model.SerializeToString(deterministic=True))
        (self._package / WEIGHTS).write_bytes(bytes(self._blobs))

    def _message(self, operation: Any, key: str) -> Any:
        """Return the `Value` of an attribute or argument, followed through a constant's name; None without."""
        if key in operation.attributes:
            return operation.attributes[key]
        if key not in operation.inputs:
            return None
        (binding,) = operation.inputs[key].arguments
        if binding.WhichOneof("binding") == "value":
            return binding.value
        maker = next(one for one in operations(self._model) if binding.name in [out.name for out in one.outputs])
        return maker.attributes.get("val")

    def _write(self, message: Any, value: Any) -> None:
        dtype = from_mil(message.type.tensorType.dataType)
        data = (pack(value, dtype.bits) if dtype.bits < 8 else np.ascontiguousarray(value, dtype.numpy)).tobytes()
        if message.WhichOneof("value") == "blobFileValue":
            size, start = struct.unpack_from("<QQ", self._blobs, message.blobFileValue.offset + 8)
            assert size == len(data)
            self._blobs[start : start + size] = data
            return
        tensor = message.immediateValue.tensor
        field = tensor.WhichOneof("value")
        if field == "bytes":
            tensor.bytes.values = data
        else:
            getattr(tensor, field).values[:] = value.reshape(-1).tolist()
