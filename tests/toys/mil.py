"""Writes small .mlpackage directories by hand, so that tests need no converter."""

import json
import struct

import numpy as np

from stages.coreml import dtypes, proto

MIL_CODES = {dtype: code for code, dtype in dtypes.BY_MIL_CODE.items()}
BLOB_CODES = {dtype: code for code, dtype in dtypes.BY_BLOB_CODE.items()}
IMMEDIATE = {
    dtypes.FP32: "floats",
    dtypes.INT32: "ints",
    dtypes.BOOL: "bools",
}


class Builder:
    """A program of one function; every method returns the name of what it made."""

    def __init__(self, opset="CoreML8"):
        self.model = proto.definitions().Model()
        self.model.specificationVersion = 9
        self.model.mlProgram.version = 1
        self.function = self.model.mlProgram.functions["main"]
        self.function.opset = opset
        self.block = self.function.block_specializations[opset]
        self.blobs = bytearray(struct.pack("<II56x", 0, 2))
        self.names = 0

    def _name(self):
        self.names += 1
        return f"v{self.names}"

    def input(self, name, dtype, shape, shapes=None):
        _set_type(self.function.inputs.add(name=name).type.tensorType, dtype, shape)
        feature = self.model.description.input.add(name=name).type.multiArrayType
        feature.dataType = 65568 if dtype is dtypes.FP32 else 131104
        feature.shape.extend(1 if size is None else size for size in shape)
        for item in shapes or ():
            feature.enumeratedShapes.shapes.add().shape.extend(item)
        return name

    def state(self, name, dtype, shape):
        _set_type(self.function.inputs.add(name=name).type.stateType.wrappedType.tensorType, dtype, shape)
        return name

    def const(self, value, dtype=None, *, blob=False):
        name = self._name()
        operation = self.block.operations.add(type="const")
        self.set_value(operation.attributes["val"], value, dtype, blob=blob)
        operation.outputs.add(name=name).type.CopyFrom(operation.attributes["val"].type)
        return name

    def set_value(self, target, value, dtype=None, *, blob=False):
        array = np.asarray(value)
        dtype = dtype or {"f": dtypes.FP32, "i": dtypes.INT32, "b": dtypes.BOOL, "U": dtypes.STRING}[array.dtype.kind]
        _set_type(target.type.tensorType, dtype, array.shape)
        if blob:
            target.blobFileValue.fileName = "@model_path/weights/weight.bin"
            target.blobFileValue.offset = self._blob(array, dtype)
        elif dtype is dtypes.STRING:
            target.immediateValue.tensor.strings.values.append(str(value))
        elif dtype in IMMEDIATE:
            field = getattr(target.immediateValue.tensor, IMMEDIATE[dtype])
            field.values.extend(array.reshape(-1).tolist())
        else:
            target.immediateValue.tensor.bytes.values = pack(array, dtype)

    def _blob(self, array, dtype):
        data = pack(array, dtype)
        offset = len(self.blobs)
        padding = len(data) * 8 - array.size * dtype.bits
        self.blobs += struct.pack("<IIQQQ32x", 0xDEADBEEF, BLOB_CODES[dtype], len(data), offset + 64, padding)
        self.blobs += data + bytes(-len(data) % 64)
        return offset

    def op(self, kind, shape, declared=dtypes.FP32, /, *, attributes=None, **inputs):
        """Add an operation with one output."""
        operation = self.block.operations.add(type=kind)
        self.bind(operation, inputs)
        for key, (value, value_type) in (attributes or {}).items():
            self.set_value(operation.attributes[key], value, value_type)
        name = self._name()
        _set_type(operation.outputs.add(name=name).type.tensorType, declared, shape)
        return name

    def bind(self, operation, inputs):
        for key, names in inputs.items():
            for name in names if isinstance(names, list) else [names]:
                operation.inputs[key].arguments.add(name=name)

    def save(self, folder, *outputs):
        self.block.outputs.extend(outputs)
        package = folder / "model.mlpackage"
        weights = package / "Data/com.apple.CoreML/weights"
        weights.mkdir(parents=True, exist_ok=True)
        (weights / "weight.bin").write_bytes(bytes(self.blobs))
        (weights.parent / "model.mlmodel").write_bytes(self.model.SerializeToString(deterministic=True))
        entry = {"author": "com.apple.CoreML", "name": "model.mlmodel", "path": "com.apple.CoreML/model.mlmodel"}
        manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": {"a": entry}, "rootModelIdentifier": "a"}
        (package / "Manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        return package


def _set_type(tensor, dtype, shape):
    tensor.dataType = MIL_CODES[dtype]
    tensor.rank = len(shape)
    for size in shape:
        dimension = tensor.dimensions.add()
        if size is None:
            dimension.unknown.variadic = False
        else:
            dimension.constant.size = size


def pack(array, dtype):
    """Encode elements as the weight file does."""
    if dtype.bits >= 8:
        return np.asarray(array, dtype.numpy).tobytes()
    values = np.asarray(array).reshape(-1).astype(np.int64) & ((1 << dtype.bits) - 1)
    bits = (values[:, None] >> np.arange(dtype.bits)) & 1
    return np.packbits(bits.reshape(-1).astype(np.uint8), bitorder="little").tobytes()
