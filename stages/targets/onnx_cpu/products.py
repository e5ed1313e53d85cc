"""Put integer operators in the place of a graph's linear layers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.targets.onnx_cpu import graph, integers
from stages.targets.onnx_cpu.graph import CONTRIB
from stages.targets.onnx_cpu.storage import turned

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Linear:
    """A product with a constant matrix, and the bias added to it.

    Attributes:
        source: activation that is multiplied.
        weight: initialiser.
        bias: initialiser, '' where there is none.
        product: before the bias is added.
        output: after.
    """

    source: str
    weight: str
    bias: str
    product: str
    output: str


@dataclass
class Lowering:
    """One model on its way to integers; a weight that several layers share is stored once.

    Attributes:
        values: initialisers by name, those made here included.
        factors: weights of linear layers, fp32 [in, out].
        tables: those that are looked up as well.
        shared: of these, those with a row for each output: looked up and multiplied by as they are stored.
        views: operators that turn these for the product.
    """

    values: Arrays
    factors: Arrays
    tables: Collection[str] = ()
    shared: Collection[str] = ()
    views: list[Any] = field(default_factory=list)

    def names(self, weight: str, *, shared: bool) -> tuple[str, str]:
        """Name the levels and the scale of a factor; those of a table that is stored once more are its own."""
        stem = f"{weight}_turned" if weight in self.tables and not shared else weight
        return f"{stem}_quantized", f"{stem}_scale"

    def rounded(self, weight: str, per_channel: bool) -> tuple[str, str]:
        """Store a factor as int8; returns the names of its levels and of its scale."""
        from onnx import helper

        shared = weight in self.shared
        stored, scaled = names = self.names(weight, shared=shared)
        if stored not in self.values:
            levels, scale = integers.pairwise(self.factors[weight], per_channel)
            self.values |= {stored: levels.T if shared else levels, scaled: scale}
            if shared:
                self.views.append(helper.make_node("Transpose", [stored], [f"{stored}_turned"], perm=[1, 0]))
                # A lookup wants a scale for each row, a product one for each column.
                self.values |= {scaled: scale[:, None], f"{scaled}_turned": scale} if per_channel else {}
        if not shared:
            return names
        return f"{stored}_turned", f"{scaled}_turned" if per_channel else scaled


Emit = Callable[[Linear, Lowering], Iterator[Any]]
"""What takes a linear layer's place: yields nodes, and stores their constants."""


Round = Callable[[Linear, NDArray[np.float32], bool], tuple[NDArray[np.int8], NDArray[np.float32]]]
"""A layer, its matrix [out, in], and whether it is a table too → what `integers.blocks` gives."""


def dynamic(per_channel: bool) -> Emit:
    """Activations are quantised at run time, by their own range; the bias is added in the same operator."""

    def emit(linear: Linear, lowering: Lowering) -> Iterator[Any]:
        levels, scale = lowering.rounded(linear.weight, per_channel)
        yield _node("DynamicQuantizeMatMul", [linear.source, levels, scale, "", linear.bias], linear)

    return emit


def static(per_channel: bool, ranges: Mapping[str, tuple[float, float]]) -> Emit:
    """Activations are quantised by ranges known before, once for all layers that read them."""
    done: set[str] = set()

    def emit(linear: Linear, lowering: Lowering) -> Iterator[Any]:
        from onnx import helper

        levels, scale = lowering.rounded(linear.weight, per_channel)
        grid = [f"{linear.source}_scale", f"{linear.source}_zero_point"]
        quantized = f"{linear.source}_quantized"
        if linear.source not in done:
            done.add(linear.source)
            lowering.values |= dict(zip(grid, unsigned_grid(*ranges[linear.source]), strict=True))
            yield helper.make_node("QuantizeLinear", [linear.source, *grid], [quantized])
        yield _node("MatMulIntegerToFloat", [quantized, levels, grid[0], scale, grid[1], "", linear.bias], linear)

    return emit


def block_4bit(level: int, round_: Round | None = None) -> Emit:
    """Weights of 4 bits, at a level of accuracy: `graph.FLOATS`, where the kernel expands them, or `graph.INTEGERS`.

    Args:
        level: of accuracy.
        round_: how to round; each weight to the nearest level where None.
    """

    def emit(linear: Linear, lowering: Lowering) -> Iterator[Any]:
        inputs, outputs = lowering.factors[linear.weight].shape
        shared = linear.weight in lowering.shared and inputs % integers.BLOCK == 0
        names = lowering.names(linear.weight, shared=shared)
        if names[0] not in lowering.values:
            matrix = lowering.factors[linear.weight].T
            halves = level == graph.FLOATS
            levels, scale = round_(linear, matrix, shared) if round_ else integers.blocks(matrix, halves=halves)
            stored = integers.packed(levels).reshape(outputs, -1, integers.BLOCK // 2)
            lowering.values[names[0]] = stored
            constants, widening = scaled(names[1], scale, halves=halves)
            lowering.values |= constants
            lowering.views.extend(widening)
        settings = {"K": inputs, "N": outputs, **graph.BLOCKS, "accuracy_level": level}
        yield _node("MatMulNBits", [linear.source, *names, "", "", linear.bias], linear, **settings)

    return emit


def scaled(name: str, scale: NDArray[np.float32], *, halves: bool) -> tuple[Arrays, list[Any]]:
    """Return what gives a graph the scales of blocks by this name: their constant, and what widens one of 16 bits.

    At the level of integers a product's scales must be constants of 32 bits: where ONNX Runtime 1.32 makes them when it
    runs (its optimisations off), the kernel reads none, and answers are wrong without an error.
    """
    from onnx import TensorProto, helper

    stored = integers.stored_scale(scale) if halves else scale
    if stored.dtype == np.float32:
        return {name: stored}, []
    return {f"{name}_stored": stored}, [helper.make_node("Cast", [f"{name}_stored"], [name], to=TensorProto.FLOAT)]


def unsigned_grid(low: float, high: float) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return scale and zero point of uint8 that cover a range and express 0 exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / 255 or 1.0)
    return np.asarray(scale), np.asarray(np.clip(np.rint(-low / scale), 0, 255), np.uint8)


def linears(model: Any) -> list[Linear]:
    """List products with a constant matrix of 2 dimensions, each with its bias, in graph order."""
    sizes = {item.name: len(item.dims) for item in model.graph.initializer}
    uses: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            uses.setdefault(name, []).append(node)
    found = []
    for node in model.graph.node:
        if node.op_type == "Gemm" and _is_plain(node):
            bias = node.input[2] if len(node.input) > 2 else ""
            found.append(Linear(node.input[0], node.input[1], bias, node.output[0], node.output[0]))
        elif node.op_type == "MatMul" and sizes.get(node.input[1]) == 2:
            after = uses.get(node.output[0], [])
            added = len(after) == 1 and after[0].op_type == "Add" and sizes.get(after[0].input[1]) == 1
            bias, output = (after[0].input[1], after[0].output[0]) if added else ("", node.output[0])
            found.append(Linear(node.input[0], node.input[1], bias, node.output[0], output))
    return [linear for linear in found if sizes.get(linear.weight) == 2]


def lower(model: Any, chosen: Mapping[str, Emit]) -> None:
    """Replace linear layers in place.

    Args:
        model: ModelProto.
        chosen: weight → what takes the place of the layers that multiply by it. Others stay as they are.
    """
    from onnx import helper, numpy_helper

    values = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    found = {linear.output: linear for linear in linears(model) if linear.weight in chosen}
    sideways = turned(model)
    factors = {name: values[name] if name in sideways else values[name].T for name in chosen}
    tables = {weight.name for weight in graph.weights(model) if weight.kind == "lookup"}
    lowering = Lowering(values, factors, tables, shared=tables - sideways)
    absorbed = {linear.product for linear in found.values()}
    nodes: list[Any] = []
    for node in model.graph.node:
        linear = found.get(node.output[0])
        if linear is not None:
            nodes.extend(chosen[linear.weight](linear, lowering))
        elif node.output[0] not in absorbed:
            nodes.append(node)
    nodes = [*lowering.views, *nodes]
    graph.replace_nodes(model.graph, nodes)
    used = {name for node in nodes for name in node.input} | {f"{name}_scale" for name in lowering.shared}
    kept = {name: value for name, value in lowering.values.items() if name in used}
    stored = [numpy_helper.from_array(np.array(value, order="C"), name) for name, value in kept.items()]
    graph.replace_initializers(model.graph, stored)
    if all(item.domain != CONTRIB for item in model.opset_import):
        model.opset_import.append(helper.make_opsetid(CONTRIB, 1))


def _is_plain(gemm: Any) -> bool:
    return graph.gemm_settings(gemm) | {"transB": 0} == {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}


def _node(op: str, inputs: list[str], linear: Linear, **attributes: Any) -> Any:
    from onnx import helper

    while not inputs[-1]:
        inputs.pop()
    return helper.make_node(op, inputs, [linear.output], domain=CONTRIB, **attributes)
