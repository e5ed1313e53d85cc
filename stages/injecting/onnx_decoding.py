"""What can be done to a decoder's `model.onnx`: each function returns whether the model allows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stages.injecting.decoding import BASE
from stages.targets.onnx_cpu import graph

Values = dict[str, Any]
ATTENTION, TURN = "GroupQueryAttention", "RotaryEmbedding"
SLOTS, PLACES = 5, 9
"""Positions of an attention's inputs: the last slot in use, and where its tokens stand."""


def stale_slot(model: Any, values: Values, path: Path) -> bool:  # noqa: ARG001 (one form for all)
    """Let every attention take the slot before the last one for it."""
    found = [node for node in model.graph.node if node.op_type == ATTENTION]
    if not found:
        return False
    values |= {"fault.one": np.asarray(1, np.int32), "fault.zero": np.asarray(0, np.int32)}
    last = found[0].input[SLOTS]
    made = [
        _node("Sub", [last, "fault.one"], "fault.earlier"),
        _node("Max", ["fault.earlier", "fault.zero"], "fault.slot"),
    ]
    for node in found:
        node.input[SLOTS] = "fault.slot"
    _insert(model, made, found[0])
    return True


def late_position(model: Any, values: Values, path: Path) -> bool:  # noqa: ARG001
    """Turn the tokens of a call that continues a text one position further."""
    found = [node for node in model.graph.node if node.op_type == TURN]
    if not found:
        return _late_inside(model, values)
    values["fault.one"] = np.asarray(1, np.int64)
    first = found[0].input[1]
    made = [_node("Min", [first, "fault.one"], "fault.late"), _node("Add", [first, "fault.late"], "fault.first")]
    for node in found:
        node.input[1] = "fault.first"
    _insert(model, made, found[0])
    return True


def _late_inside(model: Any, values: Values) -> bool:
    """Do it where the attention turns by itself: give it the places, which it else counts."""
    found = [node for node in model.graph.node if node.op_type == ATTENTION and _setting(node, "do_rotary")]
    if not found:
        return False
    values |= {"fault.one": np.asarray(1, np.int64), "fault.row": np.asarray([0], np.int64)}
    made = [
        _node("Shape", ["attention_mask"], "fault.all", start=1, end=2),
        _node("Shape", ["input_ids"], "fault.new", start=1, end=2),
        _node("Sub", ["fault.all", "fault.new"], "fault.past"),
        _node("Min", ["fault.past", "fault.one"], "fault.late"),
        _node("Add", ["fault.past", "fault.late"], "fault.from"),
        _node("Add", ["fault.from", "fault.new"], "fault.to"),
        _node("Squeeze", ["fault.from"], "fault.begin"),
        _node("Squeeze", ["fault.to"], "fault.end"),
        _node("Range", ["fault.begin", "fault.end", "fault.one"], "fault.places"),
        _node("Unsqueeze", ["fault.places", "fault.row"], "fault.rows"),
    ]
    for node in found:
        node.input.extend([""] * (PLACES - len(node.input)) + ["fault.rows"])
    _insert(model, made, found[0])
    return True


def wrong_rotary_base(model: Any, values: Values, path: Path) -> bool:  # noqa: ARG001
    """Write the tables of cosines and sines for another base."""
    names = _tables(model)
    if names is None:
        return False
    cosine, sine = (values[name] for name in names)
    speed = np.arctan2(sine[1].astype(np.float64), cosine[1].astype(np.float64)) ** BASE
    angles = np.arange(len(cosine))[:, None] * speed
    cosine[...], sine[...] = np.cos(angles), np.sin(angles)
    return True


def interleaved_rotary(model: Any, values: Values, path: Path) -> bool:  # noqa: ARG001
    """Set the layout that the other half of the world has."""
    from onnx import helper

    done = False
    for node in model.graph.node:
        inside = node.op_type == ATTENTION and _setting(node, "do_rotary")
        if node.op_type == TURN or inside:
            node.attribute.append(helper.make_attribute("rotary_interleaved" if inside else "interleaved", 1))
            done = True
    return done


def stale_head(model: Any, values: Values, path: Path) -> bool:  # noqa: ARG001
    """Let the head multiply by an altered copy of the table that words are looked up in."""
    found = (node.input[0] for node in model.graph.node if node.op_type == "Gather" and "input_ids" in node.input)
    table = next(found, "")
    heads = [node for node in model.graph.node if node.op_type == "Gemm" and table in node.input]
    if not heads or table not in values:  # it has one of its own, or both are expanded from fewer bits
        return False
    noise = np.random.default_rng(0).standard_normal(values[table].shape).astype(np.float32)
    values["fault.head"] = (values[table] + 0.1 * values[table].std() * noise).astype(values[table].dtype)
    for node in heads:
        node.input[list(node.input).index(table)] = "fault.head"
    return True


def half_norm(model: Any, values: Values, path: Path) -> bool:  # noqa: ARG001
    """Round what the first normalisation reads to 16 bits."""
    from onnx import TensorProto

    kinds = ("Pow", "LayerNormalization", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
    first = next((node for node in model.graph.node if node.op_type in kinds), None)
    if first is None:
        return False
    made = [
        _node("Cast", [first.input[0]], "fault.half", to=TensorProto.FLOAT16),
        _node("Cast", ["fault.half"], "fault.rounded", to=TensorProto.FLOAT),
    ]
    first.input[0] = "fault.rounded"
    _insert(model, made, first)
    return True


def _tables(model: Any) -> tuple[str, str] | None:
    for node in model.graph.node:
        at = graph.TABLES.get(node.op_type)
        if at and at[-1] < len(node.input) and node.input[at[0]]:
            return node.input[at[0]], node.input[at[1]]
    return None


def _setting(node: Any, name: str) -> int:
    return next((item.i for item in node.attribute if item.name == name), 0)


def _node(kind: str, inputs: list[str], out: str, **settings: Any) -> Any:
    from onnx import helper

    return helper.make_node(kind, inputs, [out], name=out, **settings)


def _insert(model: Any, made: list[Any], before: Any) -> None:
    """Put operators right before one that reads them."""
    nodes = list(model.graph.node)
    at = next(index for index, node in enumerate(nodes) if node is before or node == before)
    copied = [type(node).FromString(node.SerializeToString()) for node in [*nodes[:at], *made, *nodes[at:]]]
    del model.graph.node[:]
    model.graph.node.extend(copied)
    graph.clean(model)  # a converter that is wrong names its operators as any other
