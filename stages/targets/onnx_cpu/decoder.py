"""Write a causal language model as an ONNX graph, from its weights and without torch.

Inputs and outputs are called as onnxruntime-genai and Transformers.js expect: `input_ids` [1, sequence],
`attention_mask` [1, total] and `past_key_values.L.key`, `.value` [1, groups, past, head_size] in; `logits` of
the last position [1, 1, vocabulary] and `present.L.key`, `.value` out. Past and present may be one buffer, which
ONNX Runtime then writes in place. Texts come one at a time: the mask says how many tokens there are and no more: a
padded one would be answered wrongly; and Transformers.js makes its first, empty cache of the sizes that are numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact
from stages.core.errors import ConversionError
from stages.models.families.decoder import Decoder, Layer, Linear, Norm
from stages.schema.task import Task
from stages.schema.variant import OnnxCpu
from stages.targets.base import write_signature
from stages.targets.onnx_cpu import FUSED, graph
from stages.targets.onnx_cpu.graph import CONTRIB
from stages.tasks.base import PAST, Call, Tensor

HEADS, TURNED_INSIDE = 8, 16
"""A head's size must be a multiple of the first; of the second, for the attention operator to turn heads by itself
(ONNX Runtime 1.32)."""
OPSET = 20
"""First opset that has all standard operators used here (Gelu)."""
IR_VERSION = 10
REACH = 2048
"""Positions that are turned at least, where the model reads as many: an app may give a text more room than was
measured, and tables for 8,192, as SmolLM2's config has, are 2 MB."""
STATES = ("key", "value")


class Writer:
    """Collects operators and weights in the order of the computation."""

    def __init__(self, room: int) -> None:
        """Start with nothing, for texts of so many tokens."""
        self.room = room
        self.nodes: list[Any] = []
        self.weights: dict[str, Any] = {}

    def weight(self, name: str, value: NDArray[Any]) -> str:
        """Hold a constant under a name, once."""
        from onnx import numpy_helper

        if name not in self.weights:
            self.weights[name] = numpy_helper.from_array(np.array(value, order="C"), name)
        return name

    def add(self, kind: str, inputs: list[str], *outputs: str, domain: str = "", **settings: Any) -> str:
        """Append an operator and return its first output."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, list(outputs), name=outputs[0], domain=domain, **settings))
        return outputs[0]

    def product(self, value: str, linear: Linear, out: str) -> str:
        """Multiply by a matrix, and add its bias where it has one."""
        found = self.add("MatMul", [value, self.weight(linear.name, linear.weight.T)], out)
        if linear.bias is None:
            return found
        name = linear.bias_name
        return self.add("Add", [found, self.weight(name, linear.bias)], f"{out}.biased")

    def normalised(self, value: str, norm: Norm, epsilon: float, out: str) -> str:
        """Normalise a value in standard operators, which ONNX Runtime makes one of."""
        if norm.bias is not None:
            bias = self.weight(norm.bias_name, norm.bias)
            weights = [self.weight(norm.name, norm.weight), bias]
            return self.add("LayerNormalization", [value, *weights], out, axis=-1, epsilon=epsilon)
        square = self.add("Pow", [value, self.weight("two", np.asarray(2, np.float32))], f"{out}.square")
        mean = self.add("ReduceMean", [square, self.weight("last_axis", np.asarray([-1]))], f"{out}.mean", keepdims=1)
        size = self.add(
            "Sqrt",
            [self.add("Add", [mean, self.weight("epsilon", np.asarray(epsilon, np.float32))], f"{out}.shifted")],
            f"{out}.size",
        )
        return self.add(
            "Mul", [self.add("Div", [value, size], f"{out}.divided"), self.weight(norm.name, norm.weight)], out
        )

    def summed(self, value: str, other: str, norm: Norm, epsilon: float, out: str, *, kept: bool) -> tuple[str, str]:
        """Add two values and normalise the sum: returns what is normalised, and the sum, if it is kept."""
        weights, kind = [self.weight(norm.name, norm.weight)], "SkipSimplifiedLayerNormalization"
        if norm.bias is not None:
            kind = "SkipLayerNormalization"
            weights.append(self.weight(norm.bias_name, norm.bias))
        total = f"{out}.sum"
        outputs = [out, "", "", total] if kept else [out]
        self.add(kind, [value, other, *weights], *outputs, domain=CONTRIB, epsilon=epsilon)
        return out, total

    def attention(self, value: str, decoder: Decoder, layer: Layer, number: int) -> str:
        """Attend to what came before and to this call's tokens, each to those up to itself."""
        stem = f"layers.{number}"
        query, key, vectors = (
            self.product(value, linear, f"{stem}.{part}")
            for part, linear in (("query", layer.query), ("key", layer.key), ("value", layer.value))
        )
        query = self._normalised_heads(query, layer.query_norm, decoder, f"{stem}.query")
        key = self._normalised_heads(key, layer.key_norm, decoder, f"{stem}.key")
        turned = decoder.frequencies is not None
        inside = _turns_inside(decoder)
        tables = (
            [self.weight(name, table) for name, table in zip(("cosine", "sine"), decoder.turns(self.room), strict=True)]
            if turned
            else []
        )
        if turned and not inside:
            query = self._turned(query, decoder.heads, tables, f"{stem}.query.turned")
            key = self._turned(key, decoder.groups, tables, f"{stem}.key.turned")
        past = [f"{graph.PAST_VALUES}.{number}.{part}" for part in STATES]
        present = [f"present.{number}.{part}" for part in STATES]
        given = [query, key, vectors, *past, "last", "total", *(tables if inside else [])]
        found = self.add(
            "GroupQueryAttention",
            given,
            f"{stem}.attention",
            *present,
            domain=CONTRIB,
            num_heads=decoder.heads,
            kv_num_heads=decoder.groups,
            do_rotary=int(inside),
            scale=decoder.head_size**-0.5,
        )
        return self.product(found, layer.output, f"{stem}.output")

    def _normalised_heads(self, value: str, norm: Norm | None, decoder: Decoder, out: str) -> str:
        """Normalise each head by itself, where the model does."""
        if norm is None:
            return value
        size = decoder.head_size
        apart, joined = (
            self.weight(name, np.asarray(shape))
            for name, shape in (("apart", [0, 0, -1, size]), ("joined", [0, 0, -1]))
        )
        heads = self.add("Reshape", [value, apart], f"{out}.heads")
        return self.add(
            "Reshape", [self.normalised(heads, norm, decoder.epsilon, f"{out}.normal"), joined], f"{out}.joined"
        )

    def _turned(self, value: str, heads: int, tables: list[str], out: str) -> str:
        # The first position alone: the operator counts on from there.
        return self.add("RotaryEmbedding", [value, "first", *tables], out, domain=CONTRIB, num_heads=heads)

    def ffn(self, value: str, decoder: Decoder, layer: Layer, number: int) -> str:
        """Compute the two or three products of a layer's FFN."""
        stem = f"layers.{number}"
        up = self.product(value, layer.up, f"{stem}.up")
        if layer.gate is None:
            return self.product(self._activated(up, decoder, f"{stem}.active"), layer.down, f"{stem}.down")
        gate = self._activated(self.product(value, layer.gate, f"{stem}.gate"), decoder, f"{stem}.active")
        return self.product(self.add("Mul", [gate, up], f"{stem}.gated"), layer.down, f"{stem}.down")

    def _activated(self, value: str, decoder: Decoder, out: str) -> str:
        if decoder.activation == "silu":
            return self.add("QuickGelu", [value], out, domain=CONTRIB, alpha=1.0)  # x · sigmoid(alpha · x)
        return self.add({"gelu": "Gelu", "relu": "Relu"}[decoder.activation], [value], out)


def convert(decoder: Decoder, calls: Sequence[Call], task: Task, target: OnnxCpu, out: Path) -> None:
    """Write `model.onnx` (fp32) and `signature.json` into an existing directory.

    Raises:
        ConversionError: ONNX Runtime has no kernel for heads of this size, or the opset lacks an operator.
        InputError: the model reads fewer tokens than the task asks for.
    """
    if decoder.head_size % HEADS:
        raise ConversionError(f"heads have {decoder.head_size} numbers", expected=f"a multiple of {HEADS}")
    if target.opset < OPSET:
        raise ConversionError(f"targets.onnx-cpu.opset is {target.opset}", expected=f"{OPSET} or later for a decoder")
    decoder.require(task.max_length)
    model = build(decoder, target.opset, min(decoder.context, max(task.max_length, REACH)))
    graph.clean(model)
    axes: list[str | int] = [1, decoder.groups, PAST, decoder.head_size]
    states = [
        Tensor(name=f"{graph.PAST_VALUES}.{number}.{part}", dtype="float32", axes=axes)
        for number in range(len(decoder.layers))
        for part in STATES
    ]
    kept = [call.model_copy(update={"states": states}) for call in calls]
    write_signature(out, task, kept, dynamic=True, pad_token_id=decoder.padding)
    artifact.write_json(out / FUSED, {})
    # Each holds all weights, and so do the buffer that a message is written into and what the checker reads of it.
    del decoder
    content = model.SerializeToString(deterministic=True)
    del model
    graph.write_bytes(content, out / graph.MODEL)


def build(decoder: Decoder, opset: int, room: int | None = None) -> Any:
    """Return the model, its weights called as in the checkpoint.

    Args:
        decoder: what to compute.
        opset: of the standard operators, 20 or later.
        room: tokens of a text, which positions are turned for; as many as the decoder may read by default.
    """
    from onnx import TensorProto, helper

    writer = Writer(room or decoder.context)
    _count(writer, told=not _turns_inside(decoder))
    value = writer.add("Gather", [writer.weight(decoder.words_name, decoder.words), "input_ids"], "words", axis=0)
    if decoder.widen is not None:
        value = writer.product(value, decoder.widen, "words.widened")
    if decoder.positions is not None:
        rows = writer.add("Add", ["first", writer.add("Range", ["zero", "length", "one"], "steps")], "places")
        table = writer.weight(decoder.positions_name, decoder.positions)
        value = writer.add("Add", [value, writer.add("Gather", [table, rows], "positions")], "embedded")
    normal, before = value, decoder.norm_first
    if before:
        normal = writer.normalised(value, decoder.layers[0].attention_norm, decoder.epsilon, "normal")
    following = [layer.attention_norm for layer in decoder.layers[1:]] + [decoder.norm]
    for number, layer in enumerate(decoder.layers):
        stem, attended = f"layers.{number}", writer.attention(normal, decoder, layer, number)
        first, second = (layer.ffn_norm, following[number]) if before else (layer.attention_norm, layer.ffn_norm)
        assert second is not None
        normal, total = writer.summed(
            attended, value if before else normal, first, decoder.epsilon, f"{stem}.normal", kept=before
        )
        fed = writer.ffn(normal, decoder, layer, number)
        kept = before and number + 1 < len(decoder.layers)
        normal, value = writer.summed(
            fed, total if before else normal, second, decoder.epsilon, f"{stem}.result", kept=kept
        )
    last = writer.add("Gather", [normal, writer.weight("end", np.asarray(-1))], "last_position", axis=1)
    if decoder.narrow is not None:
        last = writer.product(last, decoder.narrow, "last_position.narrowed")
    if decoder.head is None:  # one table for both: only this product reads a weight as it is stored
        flat = writer.add("Gemm", [last, decoder.words_name], "scores", transB=1)
    else:
        flat = writer.product(last, decoder.head, "scores")
    writer.add("Unsqueeze", [flat, "second_axis"], "logits")
    groups, size = decoder.groups, decoder.head_size
    caches = [f"{number}.{part}" for number in range(len(decoder.layers)) for part in STATES]
    value_info = helper.make_tensor_value_info
    inputs = [
        value_info("input_ids", TensorProto.INT64, [1, "sequence"]),
        value_info("attention_mask", TensorProto.INT64, [1, "total"]),
    ]
    inputs += [
        value_info(f"{graph.PAST_VALUES}.{name}", TensorProto.FLOAT, [1, groups, "past", size]) for name in caches
    ]
    outputs = [value_info("logits", TensorProto.FLOAT, [1, 1, decoder.vocabulary])]
    outputs += [value_info(f"present.{name}", TensorProto.FLOAT, [1, groups, "present", size]) for name in caches]
    chart = helper.make_graph(writer.nodes, "decoder", inputs, outputs)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(CONTRIB, 1)]
    model = helper.make_model(chart, opset_imports=opsets, ir_version=IR_VERSION)
    for name in list(writer.weights):  # one by one: a message copies what it is given, a graph of all weights at once
        model.graph.initializer.append(writer.weights.pop(name))
    return model


def _turns_inside(decoder: Decoder) -> bool:
    """Whether the attention operator turns queries and keys itself, and nothing else asks where a token stands."""
    return decoder.frequencies is not None and decoder.head_size % TURNED_INSIDE == 0


def _count(writer: Writer, *, told: bool) -> None:
    """Say how many tokens there are with this call's, and, where that is `told`, how many came before them."""
    from onnx import TensorProto

    int32 = TensorProto.INT32
    for name, value in (("zero", 0), ("one", 1), ("second_axis", [1])):
        writer.weight(name, np.asarray(value))
    total = writer.add("ReduceSum", ["attention_mask", "second_axis"], "tokens", keepdims=0)
    writer.add("Cast", [writer.add("Sub", [total, "one"], "last.wide")], "last", to=int32)
    length = writer.add("Shape", ["attention_mask"], "total.shape", start=1, end=2)
    writer.add("Cast", [writer.add("Squeeze", [length], "total.wide")], "total", to=int32)
    if told:
        writer.add("Squeeze", [writer.add("Shape", ["input_ids"], "length.shape", start=1, end=2)], "length")
        writer.add("Sub", [total, "length"], "first")
