"""What can be done to a decoder's `model.tflite`: each function returns whether the model allows it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np

from stages.injecting.decoding import BASE
from stages.injecting.tensor import Tensor
from stages.targets.tflite_nnapi import flatbuffer, storage

Tensors = Mapping[int, Tensor]
"""Buffer → what it stores."""


def stale_slot(model: Any, tensors: Tensors) -> bool:  # noqa: ARG001 (one form for all)
    """Let every token take the slot of its own keys and values for one that comes after it."""
    slots = _named(tensors, "slots")
    if slots is None:
        return False
    slots.levels += 1
    return True


def unmasked_future(model: Any, tensors: Tensors) -> bool:  # noqa: ARG001
    """Let what comes later weigh as what came before."""
    score = _named(tensors, "later.score")
    if score is None:
        return False
    score.levels[...] = 0
    return True


def late_position(model: Any, tensors: Tensors) -> bool:  # noqa: ARG001
    """Turn all tokens but the first by the next one's angles."""
    tables = [_named(tensors, name) for name in ("cosines", "sines")]
    for table in tables:
        if table is not None:
            table.levels[1:-1] = table.levels[2:].copy()
    return None not in tables


def wrong_rotary_base(model: Any, tensors: Tensors) -> bool:  # noqa: ARG001
    """Write the tables of cosines and sines for another base."""
    cosines, sines = (_named(tensors, name) for name in ("cosines", "sines"))
    if cosines is None or sines is None:
        return False
    half = cosines.levels.shape[1] // 2
    speed = np.arctan2(sines.levels[1, half:].astype(np.float64), cosines.levels[1, half:].astype(np.float64)) ** BASE
    angles = np.arange(len(cosines.levels))[:, None] * speed
    cosines.levels[...] = np.hstack([np.cos(angles), np.cos(angles)])
    sines.levels[...] = np.hstack([-np.sin(angles), np.sin(angles)])
    return True


def interleaved_rotary(model: Any, tensors: Tensors) -> bool:
    """Exchange neighbours of a head where its halves are exchanged, each turned by the angle that they share."""
    from ai_edge_litert import schema_py_generated as schema

    cosines, sines = (_named(tensors, name) for name in ("cosines", "sines"))
    if cosines is None or sines is None:
        return False
    half = cosines.levels.shape[1] // 2
    cosines.levels[...] = np.repeat(cosines.levels[:, :half], 2, axis=1)
    sines.levels[...] = np.repeat(sines.levels[:, half:], 2, axis=1) * np.tile(np.array([-1, 1], np.float32), half)
    codes = [code.builtinCode for code in model.operatorCodes]
    gather, content = codes.index(schema.BuiltinOperator.GATHER), np.arange(2 * half, dtype=np.int32) ^ 1
    buffer = flatbuffer.add_buffer(model, content)
    for graph in model.subgraphs:
        makers = {int(operator.outputs[0]): operator for operator in graph.operators}
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = b"fault.order", np.array(content.shape, np.int32), buffer
        tensor.type = schema.TensorType.INT32
        order = flatbuffer.add_tensor(graph, tensor)
        for name, operator in list(flatbuffer.operators_of(model, graph)):
            if name == "CONCATENATION" and b".swapped#" in graph.tensors[operator.outputs[0]].name:
                halves = [makers[int(index)] for index in operator.inputs]
                operator.opcodeIndex, operator.inputs = gather, np.array([halves[0].inputs[0], order], np.int32)
                operator.builtinOptionsType, operator.builtinOptions = (
                    schema.BuiltinOptions.GatherOptions,
                    schema.GatherOptionsT(),
                )
                operator.builtinOptions.axis = 3
                graph.operators = [one for one in graph.operators if all(one is not half for half in halves)]
    return True


def stale_head(model: Any, tensors: Tensors) -> bool:
    """Let the head multiply by a disordered copy of the table that words are looked up in."""
    done = False
    for graph in model.subgraphs:
        read: dict[str, list[Any]] = {name: [] for name in ("EMBEDDING_LOOKUP", "FULLY_CONNECTED")}
        for name, operator in flatbuffer.operators_of(model, graph):
            if name in read:
                read[name].append(operator)
        tables = {int(graph.tensors[operator.inputs[1]].buffer) for operator in read["EMBEDDING_LOOKUP"]}
        for operator in read["FULLY_CONNECTED"]:
            stored = graph.tensors[operator.inputs[1]]
            if int(stored.buffer) in tables and int(stored.buffer) in tensors:
                # Words in each other's place: numbers that every format can hold.
                levels = tensors[int(stored.buffer)].levels[::-1]
                packed = storage.pack(flatbuffer.tensor_types()[stored.type], levels)
                another = copy(stored)
                another.name, another.buffer = b"fault.head", flatbuffer.add_buffer(model, packed)
                added = flatbuffer.add_tensor(graph, another)
                operator.inputs = np.array([operator.inputs[0], added, *operator.inputs[2:]], np.int32)
                done = True
    return done


def _named(tensors: Tensors, name: str) -> Tensor | None:
    return next((one for one in tensors.values() if one.name.partition("#")[0] == name), None)


DECODING = {
    one.__name__: one
    for one in (stale_slot, unmasked_future, late_position, wrong_rotary_base, interleaved_rotary, stale_head)
}
"""Kind of `decoding.WHAT` → how it is done."""
