"""What can be done to a decoder's `model.mlpackage`: each function returns whether the program allows it.

Each is given the program, its constants, and what lies in `weight.bin`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.injecting.decoding import BASE
from stages.injecting.tensor import Tensor
from stages.targets.coreml_metal import POSITION
from stages.targets.coreml_metal.package import BLOB_HEADER, FILE_HEADER, SENTINEL, blob_values, operations


def stale_slot(model: Any, tensors: Iterable[Tensor], blobs: bytearray) -> bool:  # noqa: ARG001 (one form for all)
    """Let attention read each state as it was before the call wrote to it."""
    first: dict[str, str] = {}
    again = []
    for operation in operations(model):
        if operation.type == "read_state":
            state, name = _argument(operation, "input"), operation.outputs[0].name
            if first.setdefault(state, name) != name:
                again.append((operation, name, first[state]))
    for operation, name, earlier in again:
        _rename(model, name, earlier)
        _block(model).operations.remove(operation)
    return bool(again)


def late_position(model: Any, tensors: Iterable[Tensor], blobs: bytearray) -> bool:  # noqa: ARG001
    """Count tokens that continue a text from the next place on, in all but the mask."""
    block = _block(model)
    at = next((at for at, one in enumerate(block.operations) if one.type == "range_1d"), None)
    if at is None:
        return False
    places = block.operations[at].outputs[0]
    readers = [one for one in _reading(model, places.name) if one.type != "expand_dims"]
    given = _given(model, POSITION)
    one = _argument(block.operations[at], "step")
    later = _inserted(block, at + 1, "minimum", {"x": POSITION, "y": one}, "fault_continuing", given.type)
    shifted = _inserted(block, at + 2, "add", {"x": places.name, "y": later}, "fault_places", places.type)
    for reader in readers:
        for argument in reader.inputs.values():
            _point(argument, places.name, shifted)
    return bool(readers)


def wrong_rotary_base(model: Any, tensors: Iterable[Tensor], blobs: bytearray) -> bool:  # noqa: ARG001
    """Write the frequencies of another base."""
    found = next((one for one in tensors if one.name.startswith("rotary_frequencies")), None)
    if found is None:
        return False
    found.levels[...] = found.levels**BASE
    return True


def interleaved_rotary(model: Any, tensors: Iterable[Tensor], blobs: bytearray) -> bool:  # noqa: ARG001
    """Turn neighbours of a head, brought to where its halves are: queries and keys alike, so that none must go back."""
    block = _block(model)
    halving = [one for one in block.operations if one.type == "split" and "num_splits" in one.inputs]
    integers = _given(model, POSITION).type.tensorType.dataType
    for number, half in enumerate(halving):
        lookup = next(one for one in block.operations if one.type == "gather")
        name, moved = _argument(half, "x"), f"fault_neighbours_{number}"
        at, kind = _maker(block, name)
        _rename(model, name, moved)
        _inserted(block, at + 1, "gather", {"x": name}, moved, kind)
        added, size = block.operations[at + 1], kind.tensorType.dimensions[-1].constant.size
        for key in lookup.inputs.keys() - {"x"}:
            added.inputs[key].CopyFrom(lookup.inputs[key])
        _numbers(added.inputs["axis"], np.asarray(kind.tensorType.rank - 1), integers)
        _numbers(added.inputs["indices"], np.arange(size).reshape(-1, 2).T.reshape(-1), integers)
    return bool(halving)


def stale_head(model: Any, tensors: Iterable[Tensor], blobs: bytearray) -> bool:  # noqa: ARG001
    """Let the head multiply by a disordered copy of the table that words are looked up in."""
    block = _block(model)
    tables = {_argument(one, "x") for one in block.operations if one.type == "gather"}
    heads = [one for one in block.operations if one.type == "linear" and _argument(one, "weight") in tables]
    for head in heads:
        at, kind = _maker(block, _argument(head, "weight"))
        copied = type(head)()
        copied.CopyFrom(block.operations[at])
        _call(copied, "fault_head")
        levels = max(blob_values(copied), key=lambda value: int(BLOB_HEADER.unpack_from(blobs, value.offset)[2]))
        levels.offset = _turned_over(blobs, levels.offset, kind.tensorType.dimensions[0].constant.size)
        block.operations.insert(at + 1, copied)
        _point(head.inputs["weight"], _argument(head, "weight"), "fault_head")
    return bool(heads)


def unmasked_future(model: Any, tensors: Iterable[Tensor], blobs: bytearray) -> bool:  # noqa: ARG001
    """Let every token of a call attend to all that the cache holds after it."""
    found = operations(model)
    mask = next((one for one in found if one.type == "less_equal"), None)
    end = next((one for one in found if one.type == "add" and any(_named(one, POSITION))), None)
    if mask is None or end is None:
        return False
    _point(mask.inputs["y"], _argument(mask, "y"), end.outputs[0].name)
    return True


def half_norm(model: Any, tensors: Iterable[Tensor], blobs: bytearray) -> bool:  # noqa: ARG001
    """Square the first normalisation's numbers before they become 32 bits wide."""
    block = _block(model)
    makers = {item.name: one for one in block.operations for item in one.outputs}
    for at, square in enumerate(block.operations):
        if square.type == "mul" and _argument(square, "x") == _argument(square, "y"):
            widened = makers.get(_argument(square, "x"))
            if widened is None or widened.type != "cast" or _argument(widened, "x") not in makers:
                return False
            narrow, wide = _argument(widened, "x"), square.outputs[0].name
            for key in ("x", "y"):
                _point(square.inputs[key], _argument(square, key), narrow)
            kind = type(square.outputs[0].type)()
            kind.CopyFrom(square.outputs[0].type)
            square.outputs[0].type.CopyFrom(makers[narrow].outputs[0].type)
            square.outputs[0].name = "fault_square"
            inputs = {"x": "fault_square", "dtype": _argument(widened, "dtype")}
            _inserted(block, at + 1, "cast", inputs, wide, kind)
            return True
    return False


FAULTS = (
    stale_slot,
    late_position,
    wrong_rotary_base,
    interleaved_rotary,
    stale_head,
    unmasked_future,
    half_norm,
)
DECODING = {fault.__name__: fault for fault in FAULTS}


def _block(model: Any) -> Any:
    function = model.mlProgram.functions["main"]
    return function.block_specializations[function.opset]


def _argument(operation: Any, key: str) -> str:
    return str(operation.inputs[key].arguments[0].name)


def _named(operation: Any, name: str) -> Iterator[bool]:
    for argument in operation.inputs.values():
        yield from (one.name == name for one in argument.arguments)


def _reading(model: Any, name: str) -> list[Any]:
    return [one for one in operations(model) if any(_named(one, name))]


def _rename(model: Any, name: str, other: str) -> None:
    for operation in _reading(model, name):
        for argument in operation.inputs.values():
            _point(argument, name, other)


def _point(argument: Any, name: str, other: str) -> None:
    for one in argument.arguments:
        if one.name == name:
            one.name = other


def _inserted(block: Any, at: int, kind: str, inputs: dict[str, str], name: str, declared: Any) -> str:
    """Put an operation at a place, and return what its output is called."""
    operation = type(block.operations[0])(type=kind)
    for key, source in inputs.items():
        operation.inputs[key].arguments.add(name=source)
    operation.attributes["name"].CopyFrom(block.operations[at].attributes["name"])
    operation.outputs.add().type.CopyFrom(declared)
    _call(operation, name)
    block.operations.insert(at, operation)
    return name


def _given(model: Any, name: str) -> Any:
    return next(item for item in model.mlProgram.functions["main"].inputs if item.name == name)


def _maker(block: Any, name: str) -> tuple[int, Any]:
    """Return where an operation stands that computes a value, and the value's type."""
    for at, operation in enumerate(block.operations):
        for item in operation.outputs:
            if item.name == name:
                return at, item.type
    raise LookupError(name)


def _call(operation: Any, name: str) -> None:
    operation.outputs[0].name = name
    operation.attributes["name"].immediateValue.tensor.strings.values[:] = [name]


def _numbers(argument: Any, numbers: NDArray[np.intp], dtype: int) -> None:
    """Let an argument be integers that stand in the program itself."""
    del argument.arguments[:]
    value = argument.arguments.add().value
    kind = value.type.tensorType
    kind.dataType, kind.rank = dtype, numbers.ndim
    for size in numbers.shape:
        kind.dimensions.add().constant.size = size
    value.immediateValue.tensor.ints.values[:] = numbers.reshape(-1).tolist()


def _turned_over(blobs: bytearray, header: int, rows: int) -> int:
    """Put a blob's rows behind all blobs, the last one first, and return where its header begins."""
    _, kind, size, start, padding = BLOB_HEADER.unpack_from(blobs, header)
    content = np.frombuffer(blobs, np.uint8, size, start).reshape(rows, -1)[::-1].tobytes()
    blobs.extend(bytes(-len(blobs) % BLOB_HEADER.size))
    added = len(blobs)
    blobs.extend(BLOB_HEADER.pack(SENTINEL, kind, size, added + BLOB_HEADER.size, padding) + content)
    count, version = FILE_HEADER.unpack_from(blobs)
    FILE_HEADER.pack_into(blobs, 0, count + 1, version)
    return added
