"""The single faults of the mutation table, by the program they are put into."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.coreml_edit import Edit, flip, swap_arguments, write

Fault = Callable[[Edit], None]
EMBEDDING = "word_embeddings_weight"
QUERY = "layer_0_attention_self_query_weight"
LATER_QUERY = "layer_1_attention_self_query_weight"
KEY = "layer_0_attention_self_key_weight"
UNREAD_ROW = 57
"""A vocabulary entry that no probe contains."""


def _set(kind: str, parameter: str, field: str, value: Any, nth: int = 0) -> Fault:
    def fault(edit: Edit) -> None:
        values = getattr(edit.constant(edit.first(kind, nth), parameter), field).values
        values[0] = value(values[0]) if callable(value) else value

    return fault


def _half(kind: str, parameter: str, change: Callable[[float], float], nth: int = 0) -> Fault:
    def fault(edit: Edit) -> None:
        tensor = edit.constant(edit.first(kind, nth), parameter)
        old = float(np.frombuffer(tensor.bytes.values, np.float16)[0])
        tensor.bytes.values = np.float16(change(old)).tobytes()

    return fault


def _retype(kind: str, other: str, nth: int = 0) -> Fault:
    def fault(edit: Edit) -> None:
        edit.first(kind, nth).type = other

    return fault


def _swap(kind: str, one: str, other: str, nth: int = 0) -> Fault:
    return lambda edit: swap_arguments(edit, edit.first(kind, nth), one, other)


def _rebind(reader: tuple[str, str], parameter: str, to: str) -> Fault:
    """Make the operation of a type that reads a weight take another value for a parameter."""

    def fault(edit: Edit) -> None:
        target = next(o.name for op in edit.block.operations for o in op.outputs if to in o.name)
        edit.reading(*reader).inputs[parameter].arguments[0].name = target

    return fault


def _permutation(edit: Edit) -> None:
    values = edit.constant(edit.first("transpose"), "perm").ints.values
    values[1], values[3] = values[3], values[1]


def _heads(edit: Edit) -> None:
    values = edit.constant(edit.first("reshape"), "shape").ints.values
    values[2], values[3] = values[3], values[2]


def _relu(edit: Edit) -> None:
    operation = edit.first("gelu")
    operation.type = "relu"
    del operation.inputs["mode"]


def _second_token(edit: Edit) -> None:
    operation = edit.first("slice_by_index")
    edit.constant(operation, "begin").ints.values[1] += 1
    edit.constant(operation, "end").ints.values[1] += 1


def _drop_bias(edit: Edit) -> None:
    del edit.first("linear").inputs["bias"]


def _skip_residual(edit: Edit) -> None:
    add = edit.reading("layer_norm", "layer_0_output_LayerNorm_weight").inputs["x"].arguments[0]
    add.name = edit.made(add.name).inputs["x"].arguments[0].name


def _late(edit: Edit) -> None:
    operations = edit.block.operations
    moved = type(operations[0]).FromString(edit.first("softmax").SerializeToString())
    operations.remove(edit.first("softmax"))
    operations.add().CopyFrom(moved)


def _cycle(edit: Edit) -> None:
    edit.first("add").inputs["x"].arguments[0].name = edit.block.outputs[0]


def _attribute(edit: Edit) -> None:
    source = edit.made("perm_0").attributes["val"]
    edit.first("softmax").attributes["temperature"].CopyFrom(source)


def _declared_type(edit: Edit) -> None:
    edit.first("softmax").outputs[0].type.tensorType.dataType = 11


def _declared_shape(edit: Edit) -> None:
    edit.first("linear").outputs[0].type.tensorType.dimensions[1].constant.size += 1


def _missing(edit: Edit) -> None:
    del edit.first("matmul").inputs["y"]


def _twice(edit: Edit) -> None:
    edit.block.operations.add().CopyFrom(edit.first("tanh"))


def _other_output(edit: Edit) -> None:
    edit.block.outputs[0] = edit.first("tanh").outputs[0].name


def _no_data(edit: Edit) -> None:
    edit.made(QUERY).attributes["val"].ClearField("blobFileValue")


def _rows(name: str) -> Callable[[Edit], tuple[int, int]]:
    def row(edit: Edit) -> tuple[int, int]:
        _, start, size = edit.record(name)
        width = size // 60 if name == EMBEDDING else size // 32
        return start, width

    return row


def _zero_row(edit: Edit) -> None:
    start, width = _rows(EMBEDDING)(edit)
    write(edit, start + UNREAD_ROW * width, bytes(width))


def _low_bit(edit: Edit) -> None:
    start, width = _rows(EMBEDDING)(edit)
    flip(edit, start + UNREAD_ROW * width + 6, 0)


def _high_bit(edit: Edit) -> None:
    start, _ = _rows(QUERY)(edit)
    flip(edit, start + 101, 6)


def _not_a_number(edit: Edit) -> None:
    start, width = _rows(EMBEDDING)(edit)
    write(edit, start + UNREAD_ROW * width, np.float16(np.nan).tobytes())


def _transposed(edit: Edit) -> None:
    _, start, size = edit.record(QUERY)
    square = np.frombuffer(bytes(edit.weights[start : start + size]), np.float16).reshape(32, 32)
    write(edit, start, square.T.tobytes())


def _exchanged_rows(edit: Edit) -> None:
    start, width = _rows(QUERY)(edit)
    one, two = start + 3 * width, start + 4 * width
    first, second = bytes(edit.weights[one : one + width]), bytes(edit.weights[two : two + width])
    write(edit, one, second)
    write(edit, two, first)


def _truncated(edit: Edit) -> None:
    del edit.weights[-128:]


def _other_record(edit: Edit) -> None:
    edit.made(QUERY).attributes["val"].blobFileValue.offset = edit.record(KEY)[0]


def _outside(edit: Edit) -> None:
    edit.made(QUERY).attributes["val"].blobFileValue.offset = 1 << 40


def _between(edit: Edit) -> None:
    edit.made(QUERY).attributes["val"].blobFileValue.offset += 64


def _header(place: str, value: int) -> Fault:
    layout = {"sentinel": ("<I", 0), "type": ("<I", 4), "size": ("<Q", 8), "start": ("<Q", 16)}

    def fault(edit: Edit) -> None:
        form, offset = layout[place]
        struct.pack_into(form, edit.weights, edit.record(QUERY)[0] + offset, value)

    return fault


def _version(edit: Edit) -> None:
    struct.pack_into("<I", edit.weights, 4, 1)


def _level(name: str, parameter: str, change: Callable[[int], int]) -> Fault:
    """Change one stored byte of a compressed weight."""

    def fault(edit: Edit) -> None:
        _, start, size = edit.record(name, parameter)
        position = start + size * UNREAD_ROW // 60
        edit.weights[position] = change(edit.weights[position]) % 256

    return fault


def _scale(name: str, factor: float) -> Fault:
    def fault(edit: Edit) -> None:
        _, start, _ = edit.record(name, "scale")
        (old,) = np.frombuffer(bytes(edit.weights[start + 4 : start + 6]), np.float16)
        write(edit, start + 4, np.float16(old * factor).tobytes())

    return fault


def _exchanged_entries(edit: Edit) -> None:
    tensor_or_blob = edit.record(EMBEDDING, "lut")
    start = tensor_or_blob[1]
    one, two = bytes(edit.weights[start : start + 2]), bytes(edit.weights[start + 2 : start + 4])
    write(edit, start, two + one)


def _stale(edit: Edit) -> None:
    edit.block.operations.remove(edit.first("write_state"))


def _old_value(edit: Edit) -> None:
    write_state = edit.first("write_state")
    write_state.inputs["data"].arguments[0].name = edit.first("read_state").outputs[0].name


PROGRAM: dict[str, Fault] = {
    "mask: operands of `sub` swapped": _swap("sub", "x", "y"),
    "mask: constant a thousandth": _half("mul", "y", lambda old: old / 1000),
    "scores: operands of `matmul` swapped": _swap("matmul", "x", "y"),
    "scores: second operand not transposed": _set("matmul", "transpose_y", "bools", lambda old: not old),
    "scores: scale squared": _half("mul", "y", lambda old: old * old, 1),
    "softmax along the wrong axis": _set("softmax", "axis", "ints", -2),
    "GELU: tanh approximation": _set("gelu", "mode", "strings", "TANH_APPROXIMATION"),
    "GELU replaced by ReLU": _relu,
    "tanh replaced by sigmoid": _retype("tanh", "sigmoid"),
    "residual multiplied instead of added": _retype("add", "mul", 3),
    "residual left out": _skip_residual,
    "LayerNorm: epsilon 0.01": _half("layer_norm", "epsilon", lambda _: 0.01),
    "LayerNorm over the wrong axis": _set("layer_norm", "axes", "ints", 1),
    "LayerNorm: scale and shift swapped": _swap("layer_norm", "gamma", "beta"),
    "transpose: wrong permutation": _permutation,
    "reshape: heads and width swapped": _heads,
    "embedding gathered along the wrong axis": _set("gather", "axis", "ints", 1),
    "pooler reads the second token": _second_token,
    "linear without its bias": _drop_bias,
    "linear with another layer's weight": _rebind(("linear", LATER_QUERY), "weight", QUERY),
    "key computed with the query weight": _rebind(("linear", KEY), "weight", QUERY),
    "bias of another layer": _rebind(("linear", LATER_QUERY), "bias", "layer_0_attention_self_query_bias"),
    "linear reads the wrong input": _rebind(("linear", "layer_1_intermediate_dense_weight"), "x", "input_17_cast_fp16"),
    "unknown operation": _retype("tanh", "frobnicate"),
    "unknown attribute": _attribute,
    "missing argument": _missing,
    "operation after its reader": _late,
    "cycle": _cycle,
    "output defined twice": _twice,
    "another value as output": _other_output,
    "wrong declared element type": _declared_type,
    "wrong declared shape": _declared_shape,
    "constant without a value": _no_data,
}
WEIGHTS: dict[str, Fault] = {
    "one row zeroed, which no probe reads": _zero_row,
    "lowest bit of one weight flipped, which no probe reads": _low_bit,
    "one NaN, which no probe reads": _not_a_number,
    "exponent bit of one weight flipped": _high_bit,
    "weight transposed": _transposed,
    "two rows exchanged": _exchanged_rows,
    "weight file truncated": _truncated,
    "record of another layer": _other_record,
    "offset outside the file": _outside,
    "offset between records": _between,
    "record: wrong sentinel": _header("sentinel", 1),
    "record: wrong element type": _header("type", 4),
    "record: wrong size": _header("size", 2046),
    "record: data past the end": _header("start", 1 << 40),
    "wrong storage version": _version,
}
INTEGER: dict[str, Fault] = {
    "one level off by two, which no probe reads": _level(EMBEDDING, "data", lambda old: old + 2),
    "scale of one channel doubled": _scale(QUERY, 2.0),
    "scale of one channel 2% larger": _scale(QUERY, 1.02),
}
MUTATIONS: dict[str, dict[str, Fault]] = {
    "fp16": {**PROGRAM, **WEIGHTS},
    "fp32": {
        "GELU: tanh approximation": _set("gelu", "mode", "strings", "TANH_APPROXIMATION"),
        "LayerNorm: epsilon 1e-5 for 1e-12": _set("layer_norm", "epsilon", "floats", 1e-5),
    },
    "weight_only_wi8": INTEGER,
    "weight_only_wi4b4": {
        "one byte of two levels changed, which no probe reads": _level(EMBEDDING, "data", lambda old: old ^ 0x22),
        "scale of one block doubled": _scale(QUERY, 2.0),
    },
    "pal4": {
        "one wrong index, which no probe reads": _level(EMBEDDING, "indices", lambda old: old ^ 0x04),
        "two table entries exchanged": _exchanged_entries,
    },
    "stateful": {"state never written": _stale, "old value written back": _old_value},
}
