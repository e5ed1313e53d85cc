"""Build a causal language model as a Core ML program, from its weights and without torch.

The program has one function, for prompts and for single tokens: `input_ids` int32 [1, n] and `position` int32 [1], how
many tokens came before them, in; `logits` fp32 [1, 1, vocabulary] of what follows the last one out. Keys and values
stay in states `key_cache_L` and `value_cache_L` fp16 [1, groups, room, head_size], a pair for each layer, which the
program writes at `position` and an `MLState` holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import Unsupported
from stages.models.families.decoder import Decoder, Layer, Linear, Norm
from stages.schema.task import Task
from stages.schema.variant import CoremlMetal
from stages.targets.base import write_signature
from stages.targets.coreml_metal import POSITION, UNROUNDED, WIDE, canonical, toolchain
from stages.targets.coreml_metal.package import PACKAGE
from stages.tasks.base import IDS, PAST, Call, Tensor

STATES = ("key_cache", "value_cache")
OLDEST = "iOS18"
"""First deployment target with states."""

PASSES = (
    "update_output_dtypes",
    "noop_elimination",
    "canonicalize_inplace_pattern",
    "prefer_state_in_downstream",
    "dead_code_elimination",
    "topological_reorder",
)
"""What coremltools' compiler is asked for. Its other passes, each of which checks the whole program, find nothing to do
in what is written here: with all of them it takes twice as long to give the same operations."""


def convert(decoder: Decoder, calls: Sequence[Call], task: Task, target: CoremlMetal, out: Path) -> None:
    """Write `model.mlpackage` (fp32) and `signature.json` into an existing directory.

    Raises:
        Unsupported: the deployment target has no states, or channels are to come first.
        InputError: the model reads fewer tokens than the task asks for.
        ConversionError: coremltools cannot build the program.
    """
    if target.minimum_deployment_target < OLDEST:
        raise Unsupported(
            f"coreml-metal has no cache for a language model at {target.minimum_deployment_target}",
            expected=f"minimum_deployment_target {OLDEST}",
        )
    if target.layout != "channels_last":
        raise Unsupported(
            f"coreml-metal writes no language model in layout {target.layout}", expected="layout channels_last"
        )
    decoder.require(task.max_length)
    room = task.sequence_lengths[-1]
    axes: list[str | int] = [1, decoder.groups, PAST, decoder.head_size]
    states = [
        Tensor(name=f"{part}_{number}", dtype="float32", axes=axes)
        for number in range(len(decoder.layers))
        for part in STATES
    ]
    kept = [call.model_copy(update={"states": states}) for call in calls]
    ct = toolchain.load()
    pipeline = ct.PassPipeline([f"common::{name}" for name in PASSES], "decoder")
    program = build(decoder, room)
    model = toolchain.build(program, kept[0], [room], target.minimum_deployment_target, "FLOAT32", pipeline)
    canonical.save(model, out / PACKAGE)
    (out / UNROUNDED).touch()
    write_signature(out, task, kept, dynamic=True, pad_token_id=decoder.padding)


def build(decoder: Decoder, room: int) -> Any:
    """Return the program, its constants called as in the checkpoint with `_` for what no identifier has.

    Args:
        decoder: what to compute.
        room: tokens that the states hold.
    """
    from coremltools import target
    from coremltools.converters.mil.mil import Function, Placeholder, Program, get_new_symbol, types
    from coremltools.converters.mil.mil.program import StateTensorPlaceholder

    shape = (1, decoder.groups, room, decoder.head_size)
    inputs = {
        IDS: Placeholder((1, get_new_symbol()), types.int32, name=IDS),
        POSITION: Placeholder((1,), types.int32, name=POSITION),
    }
    for number in range(len(decoder.layers)):
        for part in STATES:
            name = f"{part}_{number}"
            inputs[name] = StateTensorPlaceholder(shape, types.fp16, name=name)
    program = Program()
    with Function(inputs, opset_version=target[OLDEST]) as function:
        function.set_outputs([_Writer(decoder, room, function.inputs).logits()])
        program.add_function("main", function)
    return program


class _Writer:
    """Appends operations to the function that is being defined."""

    def __init__(self, decoder: Decoder, room: int, inputs: dict[str, Any]) -> None:
        from coremltools.converters.mil import Builder

        self._mb, self._decoder, self._inputs = Builder, decoder, inputs
        self._repeats = decoder.heads // decoder.groups
        self._words = self._constant(decoder.words_name, decoder.words)
        ids, self._first = inputs[IDS], inputs[POSITION]
        mb = Builder
        length = mb.gather(x=mb.shape(x=ids), indices=[1], axis=0, name="length")
        self._end = mb.add(x=self._first, y=length, name="end")
        self._from, self._to = (mb.concat(values=[[0, 0], one, [0]], axis=0) for one in (self._first, self._end))
        first, end = (mb.squeeze(x=value) for value in (self._first, self._end))
        self._places = mb.range_1d(start=first, end=end, step=1, name="places")
        # A row for each query of each head that shares a key.
        rows = mb.tile(x=mb.expand_dims(x=self._places, axes=[1]), reps=[1, self._repeats])
        slots = np.arange(room, dtype=np.int32)[None]
        self._mask = mb.less_equal(x=slots, y=mb.reshape(x=rows, shape=[-1, 1]), name="causal_mask")
        self._turns = None if decoder.frequencies is None else self._rotation(decoder.frequencies)

    def logits(self) -> Any:
        """Compute everything."""
        mb, decoder = self._mb, self._decoder
        value = mb.gather(x=self._words, indices=self._inputs[IDS], axis=0, name="words")
        if decoder.widen is not None:
            value = self._product(value, decoder.widen, "words_widened")
        if decoder.positions is not None:
            table = self._constant(decoder.positions_name, decoder.positions)
            value = mb.add(x=value, y=mb.gather(x=table, indices=self._places, axis=0, name="positions"))
        for number, layer in enumerate(decoder.layers):
            value = self._layer(value, layer, number)
        value = mb.slice_by_index(
            x=value,
            begin=[0, -1, 0],
            end=[0, 0, 0],
            begin_mask=[True, False, True],
            end_mask=[True] * 3,
            name="last_position",
        )
        if decoder.norm is not None:
            value = self._normalised(value, decoder.norm, "last_position_normal")
        if decoder.narrow is not None:
            value = self._product(value, decoder.narrow, "last_position_narrowed")
        if decoder.head is None:  # one table for both: `linear` reads a weight as the lookup does
            return mb.linear(x=value, weight=self._words, name="logits")
        return self._product(value, decoder.head, "logits")

    def _layer(self, value: Any, layer: Layer, number: int) -> Any:
        mb, before, stem = self._mb, self._decoder.norm_first, f"layers_{number}"
        parts = ((layer.attention_norm, self._attention, "attention"), (layer.ffn_norm, self._ffn, "ffn"))
        for norm, compute, name in parts:
            given = self._normalised(value, norm, f"{stem}_{name}_normal") if before else value
            value = mb.add(x=value, y=compute(given, layer, number), name=f"{stem}_{name}_sum")
            if not before:
                value = self._normalised(value, norm, f"{stem}_{name}_normal")
        return value

    def _attention(self, value: Any, layer: Layer, number: int) -> Any:
        """Attend to what came before and to this call's tokens, each to those up to itself."""
        mb, decoder, stem = self._mb, self._decoder, f"layers_{number}"
        groups, size = decoder.groups, decoder.head_size
        query = self._product(value, layer.query, f"{stem}_query")
        key = self._product(value, layer.key, f"{stem}_key")
        vectors = self._product(value, layer.value, f"{stem}_value")
        query = self._normalised_heads(query, layer.query_norm, f"{stem}_query_normal")
        key = self._normalised_heads(key, layer.key_norm, f"{stem}_key_normal")
        if self._turns is not None:
            query, key = self._turned(query, key, f"{stem}_turned")
        keys = self._kept(key, f"{STATES[0]}_{number}")
        values = self._kept(vectors, f"{STATES[1]}_{number}")
        # The heads that share a key are further rows of its one product.
        rows = mb.reshape(x=query, shape=[1, -1, groups, self._repeats * size])
        rows = mb.reshape(x=mb.transpose(x=rows, perm=[0, 2, 1, 3]), shape=[1, groups, -1, size])
        found = mb.scaled_dot_product_attention(
            query=rows, key=keys, value=values, attn_mask=self._mask, name=f"{stem}_attention"
        )
        found = mb.reshape(x=found, shape=[1, groups, -1, self._repeats * size])
        found = mb.reshape(x=mb.transpose(x=found, perm=[0, 2, 1, 3]), shape=[1, -1, decoder.heads * size])
        return self._product(found, layer.output, f"{stem}_output")

    def _normalised_heads(self, value: Any, norm: Norm | None, name: str) -> Any:
        """Normalise each head by itself, where the model does."""
        if norm is None:
            return value
        width = value.shape[-1]
        heads = self._mb.reshape(x=value, shape=[1, -1, width // self._decoder.head_size, self._decoder.head_size])
        return self._mb.reshape(x=self._normalised(heads, norm, name), shape=[1, -1, width])

    def _kept(self, value: Any, name: str) -> Any:
        """Write what this call adds into a state, and return all of it."""
        mb, groups, size = self._mb, self._decoder.groups, self._decoder.head_size
        state = self._inputs[name]
        split = mb.transpose(x=mb.reshape(x=value, shape=[1, -1, groups, size]), perm=[0, 2, 1, 3])
        grown = mb.slice_update(
            x=mb.read_state(input=state),
            update=mb.cast(x=split, dtype="fp16"),
            begin=self._from,
            end=self._to,
            begin_mask=[True, True, False, True],
            end_mask=[True, True, False, True],
        )
        return mb.cast(x=mb.coreml_update_state(state=state, value=grown), dtype="fp32")

    def _rotation(self, frequencies: NDArray[np.float32]) -> tuple[Any, Any]:
        """Return cosine and signed sine by which a head is multiplied as it is and with its halves exchanged.

        Angles are fp32 at every precision: at position 2,048 neighbours in fp16 are two radians apart.
        """
        mb = self._mb
        numbers = mb.cast(x=self._places, dtype="fp32", name=f"places{WIDE}")
        places = mb.expand_dims(x=numbers, axes=[1, 2], name=f"places_apart{WIDE}")
        angles = mb.mul(x=places, y=self._constant(f"rotary_frequencies{WIDE}", frequencies), name=f"angles{WIDE}")
        cosine, sine = mb.cos(x=angles, name=f"cosine{WIDE}"), mb.sin(x=angles, name=f"sine{WIDE}")
        less = mb.mul(x=sine, y=np.float32(-1), name=f"less_sine{WIDE}")
        return (
            mb.concat(values=[cosine, cosine], axis=-1, name="cosines"),
            mb.concat(values=[less, sine], axis=-1, name="sines"),
        )

    def _turned(self, query: Any, key: Any, name: str) -> tuple[Any, Any]:
        """Turn the heads of queries and keys by their position, all at once."""
        mb, decoder = self._mb, self._decoder
        cosines, sines = self._turns or (None, None)
        joined = mb.concat(values=[query, key], axis=-1)
        heads = mb.reshape(x=joined, shape=[1, -1, decoder.heads + decoder.groups, decoder.head_size])
        low, high = mb.split(x=heads, num_splits=2, axis=-1)
        turned = mb.mul(x=mb.concat(values=[high, low], axis=-1), y=sines)
        turned = mb.add(x=mb.mul(x=heads, y=cosines), y=turned, name=name)
        first, second = mb.split(x=turned, split_sizes=[decoder.heads, decoder.groups], axis=2)
        return first, second

    def _ffn(self, value: Any, layer: Layer, number: int) -> Any:
        mb, stem = self._mb, f"layers_{number}"
        up = self._product(value, layer.up, f"{stem}_up")
        if layer.gate is None:
            return self._product(self._active(up), layer.down, f"{stem}_down")
        gate = self._active(self._product(value, layer.gate, f"{stem}_gate"))
        return self._product(mb.mul(x=gate, y=up), layer.down, f"{stem}_down")

    def _active(self, value: Any) -> Any:
        mb, kind = self._mb, self._decoder.activation
        if kind == "gelu":
            return mb.gelu(x=value, mode="EXACT")
        return {"relu": mb.relu, "silu": mb.silu}[kind](x=value)

    def _normalised(self, value: Any, norm: Norm, name: str) -> Any:
        """Normalise in fp32 at every precision, but for the scale.

        The square of a residual above 255 is beyond fp16; SmolLM2's reaches 24,926.
        """
        mb, epsilon = self._mb, np.float32(self._decoder.epsilon)
        if norm.bias is not None:
            plain = mb.layer_norm(x=value, axes=[-1], epsilon=epsilon, name=f"{name}{WIDE}")
            scaled = mb.mul(x=plain, y=self._constant(norm.name, norm.weight))
            bias = self._constant(norm.bias_name, norm.bias)
            return mb.add(x=scaled, y=bias, name=name)
        square = mb.mul(x=value, y=value, name=f"{name}_square{WIDE}")
        mean = mb.reduce_mean(x=square, axes=[-1], keep_dims=True, name=f"{name}_mean{WIDE}")
        size = mb.rsqrt(x=mean, epsilon=epsilon, name=f"{name}_size{WIDE}")
        plain = mb.mul(x=value, y=size, name=f"{name}{WIDE}")
        return mb.mul(x=plain, y=self._constant(norm.name, norm.weight), name=name)

    def _product(self, value: Any, linear: Linear, name: str) -> Any:
        weight = self._constant(linear.name, linear.weight)
        if linear.bias is None:
            return self._mb.linear(x=value, weight=weight, name=name)
        bias = self._constant(linear.bias_name, linear.bias)
        return self._mb.linear(x=value, weight=weight, bias=bias, name=name)

    def _constant(self, name: str, value: NDArray[Any]) -> Any:
        return self._mb.const(val=np.ascontiguousarray(value), name=name.replace(".", "_"))
