"""Rewrite an encoder's program for the Neural Engine: channels first, 1×1 convolutions for matrix products.

The principles are those of apple/ml-ane-transformers (machinelearning.apple.com/research/neural-engine-transformers):
what layers pass on is [1, channels, 1, tokens] instead of [1, tokens, channels], a linear layer is a convolution, and
heads are cut out of the channels, so that nothing is transposed between the lookup and the answer.

Every tensor of the program gets a twin: the same numbers with their axes in another order, kept track of from operation
to operation. Transpositions are then a matter of bookkeeping, products turn the operand that they need turned, and what
has no rule here reads its original, brought back from the twin: whatever a graph holds, it computes the same.

A normalisation stays one `layer_norm`, over axis 1: coremltools' compiler makes that of Apple's mean and rsqrt, too.
Written out, the square of a residual above 255 overflows in 16 bits; of one operation nothing is stored in between.
(A third party saw the Neural Engine itself overflow there before macOS 14 and iOS 17, and not since.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod
from typing import Any

import numpy as np

from stages.targets.coreml_metal.twins import Axes, Twin, Twins, known, size_of

NAME = "tinsmith::channels_first"
BEFORE = "common::reduce_transposes"
"""Pass of coremltools that it goes in front of: linear layers have their biases by then, GELUs are one operation."""
FOLDING = {
    "common::fuse_conv_scale",
    "common::fuse_conv_bias",
    "common::fuse_conv_batchnorm",
    "common::fuse_elementwise_to_batchnorm",
}
"""Passes that would fold scales (MobileBERT's) into convolutions, under other names: weights stay the checkpoint's."""
CHANNELS: dict[int, Axes] = {2: ((0,), (1,), (), ()), 3: ((0,), (2,), (), (1,))}
"""Number of axes → the twin that a convolution takes: [n, channels, 1, 1] or [1, channels, 1, tokens]."""
PLAIN: Axes = ((0,), (1,), (2,), (3,))
TURNED: Axes = ((0,), (1,), (3,), (2,))
UNARY = """
abs cast ceil clip cos elu erf exp floor gelu identity inverse leaky_relu log logical_not relu relu6 round rsqrt
scaled_tanh sigmoid sigmoid_hard sign silu sin softplus softsign sqrt square tanh threshold
"""
BINARY = "add floor_div maximum minimum mod mul pow real_div sub"
SLICED = {"begin": 0, "end": 0, "stride": 1, "begin_mask": False, "end_mask": False, "squeeze_mask": False}
"""Parameters of `slice_by_index`, one each an axis, and what they are where it has none."""
REDUCING = "reduce_l2_norm reduce_max reduce_mean reduce_min reduce_sum"


def add_to(pipeline: Any) -> None:
    """Have coremltools' compiler rewrite the program on its way, before it looks for what to fuse."""
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.converters.mil.mil.passes.pass_registry import register_pass

    class ChannelsFirst(AbstractGraphPass):  # type: ignore[misc]
        """Rewrites the one function of an encoder."""

        def apply(self, prog: Any) -> None:
            for function in prog.functions.values():
                with function:
                    _Rewriter(function).rewrite()

    namespace, _, name = NAME.partition("::")
    register_pass(namespace, override=True, name=name)(ChannelsFirst)
    place = pipeline.passes.index(BEFORE)
    pipeline.insert_pass(place, "common::dead_code_elimination")
    pipeline.insert_pass(place, NAME)
    keep_weights(pipeline)


def keep_weights(pipeline: Any) -> None:
    """Have coremltools' compiler leave the weights of convolutions, and what follows them, as they are."""
    pipeline.remove_passes(FOLDING)


class _Rewriter:
    """Adds twins to a block, operation by operation; what nothing reads any more, the compiler removes."""

    def __init__(self, block: Any) -> None:
        from coremltools.converters.mil import Builder

        self._mb, self._block, self._twins = Builder, block, Twins(block)
        self._rules: dict[str, Callable[[Any], list[Twin] | None]] = {
            "concat": self._concat,
            "layer_norm": self._normalise,
            "linear": self._linear,
            "matmul": self._matmul,
            "reshape": self._reshape,
            "slice_by_index": self._slice,
            "softmax": self._softmax,
            "split": self._split,
            "squeeze": self._squeeze,
            "transpose": self._transpose,
        }
        self._rules |= dict.fromkeys(UNARY.split(), self._unary)
        self._rules |= dict.fromkeys(BINARY.split(), self._binary)
        self._rules |= dict.fromkeys(REDUCING.split(), self._reduce)

    def rewrite(self) -> None:
        """Give twins to what linear layers read and to all that is computed from them."""
        for operation in list(self._block.operations):
            read = [value for value in _inputs(operation) if value in self._twins]
            rule = self._rules.get(operation.op_type) if read or operation.op_type == "linear" else None
            made = rule(operation) if rule else None
            if made is None:
                for value in read:
                    self._twins.original(value, operation)
                continue
            for original, twin in zip(operation.outputs, made, strict=True):
                self._twins.replace(original, twin)
        for value in list(self._block.outputs):
            self._twins.original(value, None)

    def _again(self, operation: Any, **inputs: Any) -> list[Any]:
        """Repeat an operation with other inputs, under its name."""
        given = {key: one for key, one in operation.inputs.items() if one is not None} | inputs
        made = getattr(self._mb, operation.op_type)(**given, name=operation.name, before_op=operation)
        found = list(made) if isinstance(made, list | tuple) else [made]
        for original, one in zip(operation.outputs, found, strict=True):
            one.name = original.name
        return found

    def _linear(self, operation: Any) -> list[Twin] | None:
        axes = CHANNELS.get(operation.x.rank)
        if axes is None or operation.weight.val is None:
            return None
        weight = self._twins.arranged(operation.weight, CHANNELS[2], operation)
        bias = {} if operation.bias is None else {"bias": operation.bias}
        value = self._twins.arranged(operation.x, axes, operation)
        found = self._mb.conv(x=value, weight=weight, **bias, name=operation.name, before_op=operation)
        found.name = operation.outputs[0].name
        return [Twin(found, axes)]

    def _unary(self, operation: Any) -> list[Twin] | None:
        twin = self._twins[operation.x]
        return [Twin(self._again(operation, x=twin.value)[0], twin.axes)]

    def _binary(self, operation: Any) -> list[Twin] | None:
        rank = operation.outputs[0].rank
        leading = [key for key in ("x", "y") if operation.inputs[key] in self._twins]
        key = next((one for one in leading if operation.inputs[one].rank == rank), None)
        if key is None:
            return None
        other_key = "y" if key == "x" else "x"
        value, other = operation.inputs[key], operation.inputs[other_key]
        twin = self._twins[value]
        if other.val is not None and np.size(other.val) == 1:
            return [Twin(self._again(operation, **{key: twin.value})[0], twin.axes)]
        if other not in self._twins or self._twins[other].axes != twin.axes or other.shape != value.shape:
            twin = self._twins.separated(value, operation) or twin
        found = {key: twin.value, other_key: self._twins.arranged(other, twin.axes, operation)}
        return [Twin(self._again(operation, **found)[0], twin.axes)]

    def _softmax(self, operation: Any) -> list[Twin] | None:
        return self._along(operation, operation.axis.val, "axis")

    def _normalise(self, operation: Any) -> list[Twin] | None:
        return self._along(operation, operation.axes.val, "axes")

    def _reduce(self, operation: Any) -> list[Twin] | None:
        kept = operation.keep_dims is not None and operation.keep_dims.val
        return self._along(operation, operation.axes.val, "axes") if kept and operation.axes is not None else None

    def _along(self, operation: Any, axes: Any, key: str) -> list[Twin] | None:
        """Repeat what works along one axis."""
        (axis, *others) = np.atleast_1d(axes).tolist()
        twin = self._twins.separated(operation.x, operation)
        place = None if twin is None or others else twin.place(axis % operation.x.rank)
        if twin is None or place is None:
            return None
        given = {"x": twin.value, key: place if key == "axis" else [place]}
        return [Twin(self._again(operation, **given)[0], twin.axes)]

    def _transpose(self, operation: Any) -> list[Twin] | None:
        rank = operation.x.rank
        names = {int(old) % rank: new for new, old in enumerate(operation.perm.val)}
        twin = self._twins[operation.x]
        return [twin.renamed(twin.value, names)]

    def _squeeze(self, operation: Any) -> list[Twin] | None:
        if operation.axes is None:
            return None
        rank = operation.x.rank
        gone = {int(axis) % rank for axis in operation.axes.val}
        twin = self._twins[operation.x]
        return [twin.renamed(twin.value, _numbered(axis for axis in range(rank) if axis not in gone))]

    def _split(self, operation: Any) -> list[Twin] | None:
        axis = int(operation.axis.val) % operation.x.rank
        twin = self._twins[operation.x]
        if not any(group and group[0] == axis for group in twin.axes):
            twin = self._twins.separated(operation.x, operation) or twin
        place = next(place for place, group in enumerate(twin.axes) if group and group[0] == axis)
        inner = prod(size_of(operation.x, one) for one in twin.axes[place][1:])
        given: dict[str, Any] = {"x": twin.value, "axis": place}
        if operation.split_sizes is not None:
            given["split_sizes"] = [int(size) * inner for size in operation.split_sizes.val]
        return [Twin(found, twin.axes) for found in self._again(operation, **given)]

    def _concat(self, operation: Any) -> list[Twin] | None:
        twins = [self._twins.separated(value, operation) for value in operation.values]
        first = twins[0]
        if first is None or any(twin is None or twin.axes != first.axes for twin in twins):
            return None
        place = first.place(int(operation.axis.val) % operation.values[0].rank)
        values = [twin.value for twin in twins if twin is not None]
        return [Twin(self._again(operation, values=values, axis=place)[0], first.axes)]

    def _slice(self, operation: Any) -> list[Twin] | None:
        twin, rank = self._twins.separated(operation.x, operation), operation.x.rank
        if twin is None or operation.begin.val is None or operation.end.val is None:
            return None
        read = {
            key: list(operation.inputs[key].val) if operation.inputs.get(key) is not None else [default] * rank
            for key, default in SLICED.items()
        }
        squeezed = [axis for axis in range(rank) if read["squeeze_mask"][axis]]
        for axis in squeezed:  # kept as an axis of one: from its begin to the next
            begin = 0 if read["begin_mask"][axis] else int(read["begin"][axis])
            read["begin"][axis], read["end"][axis], read["stride"][axis] = begin, begin + 1, 1
            read["begin_mask"][axis], read["end_mask"][axis] = False, begin == -1
        whole = {"begin": 0, "end": 0, "stride": 1, "begin_mask": True, "end_mask": True}
        given = {key: [read[key][group[0]] if group else value for group in twin.axes] for key, value in whole.items()}
        masks = {"squeeze_mask": [False] * len(twin.axes)}
        (found,) = self._again(operation, x=twin.value, **given, **masks)
        return [twin.renamed(found, _numbered(axis for axis in range(rank) if axis not in squeezed))]

    def _reshape(self, operation: Any) -> list[Twin] | None:
        """Cut channels into heads, or join them: the first two axes are the text, one at a time, and the tokens."""
        before, after = operation.x.shape, operation.outputs[0].shape
        leading = [*zip(before[:2], after[:2], strict=False), (1, before[0]), (1, after[0])]
        if min(len(before), len(after)) != 3 or any(known(a, b) and a != b for a, b in leading):
            return None
        twin, parts = self._twins[operation.x], tuple(range(2, max(len(before), len(after))))
        if len(before) == 3:
            if (2,) not in twin.axes or not known(*before[2:], *after[2:]) or prod(after[2:]) != before[2]:
                return None
            return [Twin(twin.value, tuple(parts if group == (2,) else group for group in twin.axes))]
        if not known(*before[2:]) or prod(before[2:]) != _channels(operation.outputs[0]):
            return None
        if parts not in twin.axes:
            twin = self._twins.separated(operation.x, operation) or twin
            if twin.axes != ((0,), *((axis,) for axis in parts), (1,)):
                return None
            shape = [1, prod(before[2:]), 1, -1]
            found = self._mb.reshape(x=twin.value, shape=shape, name=operation.name, before_op=operation)
            found.name = operation.outputs[0].name
            return [Twin(found, CHANNELS[3])]
        return [Twin(twin.value, tuple((2,) if group == parts else group for group in twin.axes))]

    def _matmul(self, operation: Any) -> list[Twin] | None:
        """Multiply with whatever operand turned; what comes of heads that are turned is turned itself."""
        x, y = (self._matrix(value, operation) for value in (operation.x, operation.y))
        if x is None or y is None:
            return None
        flags = (operation.transpose_x, operation.transpose_y)
        turn = [
            (flag is not None and bool(flag.val)) != (twin.axes == TURNED)
            for flag, twin in zip(flags, (x, y), strict=True)
        ]
        if x.axes == PLAIN and y.axes == TURNED:
            given = {"x": y.value, "y": x.value, "transpose_x": not turn[1], "transpose_y": not turn[0]}
            return [Twin(self._again(operation, **given)[0], TURNED)]
        given = {"x": x.value, "y": y.value, "transpose_x": turn[0], "transpose_y": turn[1]}
        return [Twin(self._again(operation, **given)[0], PLAIN)]

    def _matrix(self, value: Any, reader: Any) -> Twin | None:
        twin = self._twins.separated(value, reader)
        if twin is None:
            return Twin(value, PLAIN) if value.rank == len(PLAIN) else None
        return twin if twin.axes in (PLAIN, TURNED) else None


def _channels(value: Any) -> int | None:
    """Size of the last axis of three; where that is open, as many as the linear layers take that alone read it."""
    if known(value.shape[2]):
        return int(value.shape[2])
    taken = {one.weight.shape[1] if one.op_type == "linear" else None for one in value.child_ops}
    return taken.pop() if len(taken) == 1 else None


def _inputs(operation: Any) -> list[Any]:
    groups = [one if isinstance(one, list | tuple) else [one] for one in operation.inputs.values()]
    return [value for group in groups for value in group if value is not None]


def _numbered(axes: Iterable[int]) -> dict[int, int]:
    return {old: new for new, old in enumerate(axes)}
