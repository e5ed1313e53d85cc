"""Write a causal language model as a TFLite file, from its weights and without torch.

Shapes are static, so there is a signature for one token (`decode`) and one for each of `task.sequence_lengths`
(`prefill_N`), all of one copy of the weights. Keys and values of all tokens that there is room for go in and come out:
the new ones stand where `input_pos` says, and what stands behind them is not looked at. They get there by an operator
that writes in place, or by products with 0 and 1 and a sum, which give the same numbers and accelerators have.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.models.families.decoder import Array, Decoder, Layer, Linear, Norm
from stages.schema.task import Task
from stages.targets.base import write_signature
from stages.targets.tflite_nnapi import flatbuffer
from stages.targets.tflite_nnapi.entries import KEYS, PLACES, TOKENS, VALUES, prefill_name
from stages.targets.tflite_nnapi.writer import Entry, File, Value
from stages.tasks.base import DECODE, PAST, Call, Tensor

LATER = np.float32(-1e9)
"""Added to the score of a token once for every place that it stands too late by: its weight is 0 exactly."""
LOGITS = "logits"
RELU = 1
"""Code of the activation in an operator's options."""


class Graph(Entry):
    """One signature: what it computes of `length` tokens."""

    def __init__(
        self, file: File, name: str, decoder: Decoder, length: int, room: int, *, arithmetic: bool = False
    ) -> None:
        """Take the inputs, and say once what all layers read.

        Args:
            file: what it becomes a part of.
            name: of the signature.
            decoder: what to compute.
            length: tokens of a call.
            room: tokens of a text.
            arithmetic: whether keys and values are put in their place by products and a sum.
        """
        super().__init__(file, name)
        self.decoder, self.length, self.room = decoder, length, room
        size = decoder.head_size
        self.tokens = self.given(TOKENS, [1, length], "INT32")
        self.places = self.given(PLACES, [length], "INT32")
        self.caches = [
            tuple(self.given(name.format(number), [1, decoder.groups, room, size]) for name in (KEYS, VALUES))
            for number in range(len(decoder.layers))
        ]
        self.kept_values: dict[str, Value] = {}
        self.first = self._first()
        self.landing = self._landing() if arithmetic else None
        self.start = None if arithmetic else self._start()
        self.mask = self._mask()
        self.turns = self._turns() if decoder.frequencies is not None else None

    def _first(self) -> Value:
        """Return the first token's place: int32 [1]."""
        if self.length == 1:
            return self.places
        bounds = self.integers("none", 0), self.integers("one", 1)
        return self.add("SLICE", [self.places, *bounds], "first", [1], "INT32", ("SliceOptions", {}))

    def _start(self) -> Value:
        """Say where the first token's keys and values go."""
        zero = self.integers("none", 0)
        return self.joined([self.integers("before", 0, 0), self.first, zero], "start", "INT32")

    def _landing(self) -> tuple[Value, Value]:
        """Say by 1 and 0 which slot each token's keys and values go to, and which slots stay as they are.

        Returns:
            [1, groups or 1, room, length] and [1, 1, room, 1].
        """
        place = self.add("CAST", [self.first], "first.place", [1], options=("CastOptions", {"inDataType": 2}))
        place = self.shaped(place, "first.slot", [1, 1, 1, 1])
        if self.length > 1:
            following = np.arange(self.length, dtype=np.float32).reshape(1, 1, 1, -1)
            place = self.summed(place, self.constant("following", following), "each.slot")
        rows = self.constant("rows", np.arange(self.room, dtype=np.float32).reshape(1, 1, -1, 1))
        apart = self.reduced(rows, place, "apart")
        apart = self.add("ABS", [apart], "apart.far", apart.shape, options=("AbsOptions", {}))
        whole = self.constant("whole", np.ones((1, 1, 1, 1), np.float32))
        lands = taken = self.reduced(whole, apart, "lands", RELU)
        if self.length > 1:
            axis, options = self.integers("last_axis", 3), ("ReducerOptions", {"keepDims": True})
            taken = self.add("SUM", [lands, axis], "taken", [1, 1, self.room, 1], options=options)
            groups = self.constant("groups", np.ones((1, self.decoder.groups, 1, 1), np.float32))
            # NNAPI multiplies matrices in pairs and spreads none over several.
            lands = self.scaled(lands, "lands.groups", groups)
        return lands, self.reduced(whole, taken, "stays")

    def _mask(self) -> Value:
        """Return what is added to scores: 0 up to each token's own place; [1, 1, length, room]."""
        place = self.add("CAST", [self.places], "place", [self.length], options=("CastOptions", {"inDataType": 2}))
        column = self.shaped(place, "place.column", [1, 1, self.length, 1])
        slots = self.constant("slots", np.arange(self.room, dtype=np.float32).reshape(1, 1, 1, -1))
        late = self.reduced(slots, column, "later", RELU)
        return self.scaled(late, "mask", self.constant("later.score", LATER.reshape(1)))

    def _turns(self) -> tuple[Value, Value]:
        """Look up cosine and signed sine of each token's rotation: [1, length, 1, head_size]."""
        cosine, sine = self.decoder.turns(self.room)
        return (
            self._rows("cosine", np.hstack([cosine, cosine])),
            self._rows("sine", np.hstack([-sine, sine])),
        )

    def _rows(self, name: str, table: Array) -> Value:
        rows, width = [self.constant(f"{name}s", table), self.places], table.shape[1]
        found = self.add("GATHER", rows, f"{name}.rows", [self.length, width], options=("GatherOptions", {}))
        return self.shaped(found, name, [1, self.length, 1, width])

    def looked_up(self, ids: Value, table: Array, table_name: str, name: str) -> Value:
        """Look up a vector for each token: [1, length, width]."""
        rows, width = [ids, self.constant(table_name, table)], table.shape[1]
        found = self.add("EMBEDDING_LOOKUP", rows, f"{name}.rows", [self.length, width])
        return self.shaped(found, name, [1, self.length, width])

    def product(self, value: Value, linear: Linear, name: str, activation: int = 0) -> Value:
        """Multiply by a matrix, and add its bias where it has one."""
        weight, bias = self.constant(linear.name, linear.weight), None
        if linear.bias is not None:
            bias = self.constant(linear.bias_name, linear.bias)
        settings = {"keepNumDims": True, "fusedActivationFunction": activation}
        shape = [*value.shape[:-1], len(linear.weight)]
        return self.add(
            "FULLY_CONNECTED", [value, weight, bias], name, shape, options=("FullyConnectedOptions", settings)
        )

    def normalised(self, value: Value, norm: Norm, name: str) -> Value:
        """Normalise over the width: by the root of the mean square, or by the deviation from the mean."""
        if norm.bias is not None:
            value = self.reduced(value, self.mean(value, f"{name}.mean"), f"{name}.centred")
        square = self.scaled(value, f"{name}.square", value)
        epsilon = self.constant("epsilon", np.array([self.decoder.epsilon], np.float32))
        shifted = self.summed(self.mean(square, f"{name}.spread"), epsilon, f"{name}.shifted")
        root = self.add("RSQRT", [shifted], f"{name}.root", shifted.shape)
        scaled = self.scaled(self.scaled(value, f"{name}.plain", root), name, self.constant(norm.name, norm.weight))
        if norm.bias is None:
            return scaled
        return self.summed(scaled, self.constant(norm.bias_name, norm.bias), f"{name}.moved")

    def headed(self, value: Value, heads: int, name: str, *, norm: Norm | None = None, turned: bool) -> Value:
        """Give every head an axis, normalise it and turn it by its token's place: [1, heads, length, head_size]."""
        size = self.decoder.head_size
        found = self.shaped(value, f"{name}.heads", [1, self.length, heads, size])
        if norm is not None:
            found = self.normalised(found, norm, f"{name}.norm")
        if turned and self.turns is not None:
            cosine, sine = self.turns
            low, high = (self._half(found, half, f"{name}.half{half}") for half in (0, 1))
            swapped = self.joined([high, low], f"{name}.swapped")
            found = self.summed(
                self.scaled(found, f"{name}.cosine", cosine),
                self.scaled(swapped, f"{name}.sine", sine),
                f"{name}.turned",
            )
        if self.length == 1:
            return self.shaped(found, f"{name}.placed", [1, heads, self.length, size])
        return self.exchanged(found, f"{name}.placed")

    def _half(self, value: Value, half: int, name: str) -> Value:
        *axes, size = value.shape
        begin = self.integers("begin", 0, 0, 0, half * size // 2)
        wanted = [*axes, size // 2]
        return self.add(
            "SLICE", [value, begin, self.integers("size", *wanted)], name, wanted, options=("SliceOptions", {})
        )

    def kept(self, value: Value, layer: Layer, number: int) -> tuple[Value, Value]:
        """Put keys and values of the tokens behind those of the tokens before, and return both with all."""
        found = []
        parts = (("key", KEYS, layer.key, layer.key_norm), ("value", VALUES, layer.value, None))
        for cache, (part, name, linear, norm) in zip(self.caches[number], parts, strict=True):
            stem, product = f"layers.{number}.{part}", self.product(value, linear, f"layers.{number}.{part}")
            new = self.headed(product, self.decoder.groups, stem, norm=norm, turned=part == "key")
            written = self._written(cache, new, f"{stem}.kept")
            self.kept_values[name.format(number)] = written
            found.append(written)
        return found[0], found[1]

    def _written(self, cache: Value, new: Value, name: str) -> Value:
        """Put what is new [1, groups, length, head_size] where it belongs among what is kept."""
        if self.landing is None:
            inputs, options = [cache, new, self.start], ("DynamicUpdateSliceOptions", dict[str, Any]())
            return self.add("DYNAMIC_UPDATE_SLICE", inputs, name, cache.shape, options=options)
        lands, stays = self.landing
        put = f"{name}.put"
        placed = self.scaled(new, put, lands) if self.length == 1 else self.multiplied(lands, new, put, turned=False)
        return self.summed(self.scaled(cache, f"{name}.left", stays), placed, name)

    def attended(self, value: Value, layer: Layer, number: int) -> Value:
        """Attend to what came before and to this call's tokens, each to those up to itself."""
        decoder, stem = self.decoder, f"layers.{number}"
        keys, values = self.kept(value, layer, number)
        query = self.product(value, layer.query, f"{stem}.query")
        query = self.headed(query, decoder.heads, f"{stem}.query", norm=layer.query_norm, turned=True)
        scale = self.constant("scale", np.array([decoder.head_size**-0.5], np.float32))
        shared = decoder.heads // decoder.groups
        rows = [1, decoder.groups, shared * self.length, decoder.head_size]
        query = self.shaped(self.scaled(query, f"{stem}.query.scaled", scale), f"{stem}.query.grouped", rows)
        scores = self.multiplied(query, keys, f"{stem}.scores", turned=True)
        apart = [decoder.groups, shared, self.length, self.room]
        scores = self.summed(self.shaped(scores, f"{stem}.scores.apart", apart), self.mask, f"{stem}.scores.masked")
        shares = self.add("SOFTMAX", [scores], f"{stem}.shares", apart, options=("SoftmaxOptions", {"beta": 1.0}))
        shares = self.shaped(shares, f"{stem}.shares.grouped", [*rows[:3], self.room])
        found = self.multiplied(shares, values, f"{stem}.context", turned=False)
        found = self.shaped(found, f"{stem}.context.apart", [1, decoder.heads, self.length, decoder.head_size])
        if self.length > 1:
            found = self.exchanged(found, f"{stem}.context.placed")
        found = self.shaped(found, f"{stem}.context.joined", [1, self.length, decoder.heads * decoder.head_size])
        return self.product(found, layer.output, f"{stem}.output")

    def fed(self, value: Value, layer: Layer, number: int) -> Value:
        """Compute the two or three products of a layer's FFN."""
        stem = f"layers.{number}"
        if layer.gate is None:
            return self.product(self._activated(value, layer.up, f"{stem}.up"), layer.down, f"{stem}.down")
        gate = self._activated(value, layer.gate, f"{stem}.gate")
        return self.product(
            self.scaled(gate, f"{stem}.gated", self.product(value, layer.up, f"{stem}.up")), layer.down, f"{stem}.down"
        )

    def _activated(self, value: Value, linear: Linear, name: str) -> Value:
        if self.decoder.activation == "relu":
            return self.product(value, linear, name, RELU)
        found = self.product(value, linear, name)
        if self.decoder.activation == "gelu":
            return self.add("GELU", [found], f"{name}.active", found.shape, options=("GeluOptions", {}))
        return self.scaled(found, f"{name}.active", self.add("LOGISTIC", [found], f"{name}.sigmoid", found.shape))

    def embedded(self) -> Value:
        """Return what the first layer reads."""
        decoder = self.decoder
        ids = self.shaped(self.tokens, "ids", [self.length], "INT32")
        value = self.looked_up(ids, decoder.words, decoder.words_name, "words")
        if decoder.widen is not None:
            value = self.product(value, decoder.widen, "words.widened")
        if decoder.positions is not None:
            found = self.looked_up(self.places, decoder.positions, decoder.positions_name, "positions")
            value = self.summed(value, found, "embedded")
        return value

    def layered(self, value: Value, layer: Layer, number: int) -> Value:
        """Compute a layer, normalised before attention and FFN or after their residual sums."""
        stem, before = f"layers.{number}", self.decoder.norm_first
        normal = self.normalised(value, layer.attention_norm, f"{stem}.attention_norm") if before else value
        value = self.summed(value, self.attended(normal, layer, number), f"{stem}.attended")
        if not before:
            value = self.normalised(value, layer.attention_norm, f"{stem}.attention_norm")
        normal = self.normalised(value, layer.ffn_norm, f"{stem}.ffn_norm") if before else value
        value = self.summed(value, self.fed(normal, layer, number), f"{stem}.fed")
        return value if before else self.normalised(value, layer.ffn_norm, f"{stem}.ffn_norm")

    def answered(self, value: Value) -> Value:
        """Say of the last layer's result how likely each token is to follow: [1, length, vocabulary]."""
        decoder = self.decoder
        if decoder.norm is not None:
            value = self.normalised(value, decoder.norm, "norm")
        if decoder.narrow is not None:
            value = self.product(value, decoder.narrow, "narrowed")
        return self.product(value, decoder.head or Linear(decoder.words_name, decoder.words), LOGITS)

    def read(self) -> None:
        """Read tokens, and answer nothing: of the last layer only keys and values are kept."""
        value, last = self.embedded(), len(self.decoder.layers) - 1
        for number, layer in enumerate(self.decoder.layers[:last]):
            value = self.layered(value, layer, number)
        layer = self.decoder.layers[last]
        if self.decoder.norm_first:
            value = self.normalised(value, layer.attention_norm, f"layers.{last}.attention_norm")
        self.kept(value, layer, last)
        self._return_kept()

    def decode(self) -> None:
        """Read a token, and say what may follow it."""
        value = self.embedded()
        for number, layer in enumerate(self.decoder.layers):
            value = self.layered(value, layer, number)
        self.returned(LOGITS, self.answered(value))
        self._return_kept()

    def _return_kept(self) -> None:
        for name, value in self.kept_values.items():
            self.returned(name, value)


def convert(decoder: Decoder, calls: Sequence[Call], task: Task, out: Path, *, arithmetic: bool = False) -> None:
    """Write `model.tflite` (fp32) and `signature.json` into an existing directory.

    Args:
        decoder: what to compute.
        calls: of the task.
        task: its lengths.
        out: the directory.
        arithmetic: whether keys and values are put in their place by products and a sum.

    Raises:
        InputError: the model reads fewer tokens than the task asks for.
    """
    room = task.sequence_lengths[-1]
    decoder.require(room)
    flatbuffer.write(build(decoder, task.sequence_lengths, arithmetic=arithmetic), out / flatbuffer.MODEL)
    axes: list[str | int] = [1, decoder.groups, PAST, decoder.head_size]
    states = [
        Tensor(name=name.format(number), dtype="float32", axes=axes)
        for number in range(len(decoder.layers))
        for name in (KEYS, VALUES)
    ]
    kept = [call.model_copy(update={"states": states}) for call in calls]
    write_signature(out, task, kept, dynamic=True, pad_token_id=decoder.padding)


def build(decoder: Decoder, lengths: Sequence[int], *, arithmetic: bool = False) -> Any:
    """Return the model, its weights called as in the checkpoint.

    Args:
        decoder: what to compute.
        lengths: of the signatures that read a text; the last one is how many tokens there is room for.
        arithmetic: whether keys and values are put in their place by products and a sum.
    """
    file = File()
    Graph(file, DECODE, decoder, 1, lengths[-1], arithmetic=arithmetic).decode()
    for length in lengths:
        Graph(file, prefill_name(length), decoder, length, lengths[-1], arithmetic=arithmetic).read()
    return file.model()
