"""Store weights as the levels, scales and minima of the GGUF file they come from, and compute what these stand for.

No kernel takes what such a file holds as it is, fast and in fp32. Those of ONNX Runtime 1.32 that do are used so:

* 4 bits: `MatMulNBits` with activations in fp32 takes a scale for each block and a zero in the middle. What Q4_1's
  minimum adds to every weight of a block is as much for all of them, so that the sums of the activations over blocks,
  times a small matrix, make up for it.
* 8 bits: `MatMulNBits` is fast with activations of 8 bits alone, 32 at a time. So an activation is cut into three of
  them, the second of what the first left over and the third of what the second did, which together have the 24 bits of
  fp32. What the kernel makes of an activation is asked of the kernel: its product with an identity.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ConversionError, InputError
from stages.core.packing import pack
from stages.targets.onnx_cpu import graph, products, restored, source_grid
from stages.targets.onnx_cpu.graph import CONTRIB
from stages.targets.onnx_cpu.integers import BLOCK
from stages.targets.onnx_cpu.products import Linear, Lowering
from stages.targets.onnx_cpu.source_grid import Grid, identity, members
from stages.targets.onnx_cpu.storage import turned


def lower(model: Any, names: Collection[str]) -> dict[str, int]:
    """Lower matrices and tables in place.

    Args:
        model: fp32 ModelProto of a decoder.
        names: weights to store so.

    Returns:
        Weight → bits of a number.

    Raises:
        InputError: a weight lies on no grid of a file.
        ConversionError: what was written does not stand for the weights, to the bit.
    """
    from onnx import numpy_helper

    before = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    sideways = turned(model)
    found = {name: _grid(name, before[name].T if name in sideways else before[name]) for name in sorted(names)}
    factors = {linear.weight for linear in products.linears(model)} & found.keys()
    writer = _Writer(found)
    products.lower(model, dict.fromkeys(factors, writer.product))
    _look_up(model, found, factors)
    graph.clean(model)
    _check(model, before, sideways, found)
    return {name: grid.bits for name, grid in found.items()}


def _grid(name: str, matrix: NDArray[np.float32]) -> Grid:
    found = source_grid.find(matrix)
    if found is None:
        raise InputError(
            f"'{name}' has numbers that no file in {source_grid.KINDS} holds",
            expected="weights as a GGUF file gives them",
            next_step="set teacher.path to the GGUF file, student=none and compression none, or choose a precision "
            "that rounds",
        )
    return found


def constants(name: str, grid: Grid) -> tuple[dict[str, NDArray[Any]], list[Any]]:
    """Return what a weight is stored as, levels aside, and the operators that widen it when the model is opened.

    They give `NAME_scale`, fp32 [rows, blocks], and, where there is a minimum, `NAME_offset`: what stands for the
    level in the middle.
    """
    from onnx import TensorProto, helper

    scale = f"{name}_scale"
    if grid.bits == 8:  # what an integer product reads: see `products.scaled`
        return {scale: grid.scale.astype(np.float32)}, []
    values: dict[str, NDArray[Any]] = {f"{scale}_stored": grid.scale}
    nodes = [helper.make_node("Cast", [f"{scale}_stored"], [scale], to=TensorProto.FLOAT)]
    if grid.minimum is not None:
        least, middle = f"{name}_minimum", f"{name}_middle"
        values |= {f"{least}_stored": grid.minimum, middle: np.asarray(source_grid.MIDDLE[grid.bits], np.float32)}
        nodes += [
            helper.make_node("Cast", [f"{least}_stored"], [least], to=TensorProto.FLOAT),
            helper.make_node("Mul", [scale, middle], [f"{scale}_middle"]),
            helper.make_node("Add", [least, f"{scale}_middle"], [f"{name}_offset"]),
        ]
    return values, nodes


def stored_levels(grid: Grid) -> NDArray[np.uint8]:
    """Levels as `MatMulNBits` reads them: [rows, blocks, bytes]."""
    rows = len(grid.levels)
    packed = pack(grid.levels, 4) if grid.bits == 4 else grid.levels
    return np.ascontiguousarray(packed).reshape(rows, -1, BLOCK * grid.bits // 8)


class _Writer:
    """Writes products; what an activation is turned into is made once for all that read it."""

    def __init__(self, grids: Mapping[str, Grid]) -> None:
        self._grids = grids
        self._made: set[str] = set()

    def product(self, linear: Linear, lowering: Lowering) -> Iterator[Any]:
        """Yield the operators of a layer, and store their constants; see `products.Emit`."""
        from onnx import helper

        name, grid = linear.weight, self._grids[linear.weight]
        if name in lowering.tables and name not in lowering.shared:
            raise ConversionError(f"'{name}' is a table and a factor turned", expected="a row for each output")
        if f"{name}_quantized" not in lowering.values:
            values, nodes = constants(name, grid)
            lowering.values |= {f"{name}_quantized": stored_levels(grid), **values}
            lowering.views.extend(nodes)
            if grid.minimum is not None:
                lowering.views.append(helper.make_node("Transpose", [f"{name}_offset"], [f"{name}_offset_turned"]))
        yield from (self._of_8_bits if grid.bits == 8 else self._of_4_bits)(linear, lowering, grid)
        if linear.bias:
            yield helper.make_node("Add", [linear.product, linear.bias], [linear.output])

    def _of_4_bits(self, linear: Linear, lowering: Lowering, grid: Grid) -> Iterator[Any]:
        from onnx import helper

        name, source, out = linear.weight, linear.source, linear.product
        if grid.minimum is None:
            yield _block_product(source, name, grid.levels.shape, 4, graph.FLOATS, out)
            return
        sums = f"{source}_sums"
        if sums not in self._made:
            self._made.add(sums)
            lowering.values[f"{source}_members"] = members(grid.levels.shape[1])
            yield helper.make_node("MatMul", [source, f"{source}_members"], [sums])
        yield _block_product(source, name, grid.levels.shape, 4, graph.FLOATS, f"{out}_quantized")
        yield helper.make_node("MatMul", [sums, f"{name}_offset_turned"], [f"{out}_offset"])
        yield helper.make_node("Add", [f"{out}_quantized", f"{out}_offset"], [out])

    def _of_8_bits(self, linear: Linear, lowering: Lowering, grid: Grid) -> Iterator[Any]:
        from onnx import helper

        name, source, out = linear.weight, linear.source, linear.product
        width = grid.levels.shape[1]
        parts = f"{source}_split"
        if parts not in self._made:
            self._made.add(parts)
            lowering.values |= identity(source, width)
            first, second = f"{source}_residue", f"{source}_residue_residue"
            for read, left in ((source, first), (first, second)):
                rounded = f"{read}_rounded"
                eye = [f"{source}_identity{ending}" for ending in ("", "_scale", "_zero_point")]
                yield _node("MatMulNBits", [read, *eye], rounded, **_sizes((width, width), 8, graph.INTEGERS))
                yield helper.make_node("Sub", [read, rounded], [left])
            yield helper.make_node("Concat", [source, first, second], [parts], axis=0)
        yield _block_product(parts, name, grid.levels.shape, 8, graph.INTEGERS, f"{out}_split")
        lowering.values[f"{out}_axis"] = np.asarray([0])
        yield helper.make_node("ReduceSum", [f"{out}_split", f"{out}_axis"], [out], keepdims=1)


def _sizes(shape: tuple[int, ...], bits: int, level: int) -> dict[str, int]:
    rows, width = shape
    return {"K": width, "N": rows, "bits": bits, "block_size": BLOCK, "accuracy_level": level}


def _block_product(source: str, name: str, shape: tuple[int, ...], bits: int, level: int, out: str) -> Any:
    return _node("MatMulNBits", [source, f"{name}_quantized", f"{name}_scale"], out, **_sizes(shape, bits, level))


def _node(op: str, inputs: list[str], out: str, **settings: Any) -> Any:
    from onnx import helper

    return helper.make_node(op, inputs, [out], domain=CONTRIB, **settings)


def _look_up(model: Any, grids: Mapping[str, Grid], factors: Collection[str]) -> None:
    """Put lookups of blocks in the place of those of fp32 rows."""
    from onnx import helper, numpy_helper

    values = {item.name: item for item in model.graph.initializer}
    ahead: list[Any] = []
    nodes: list[Any] = []
    for node in model.graph.node:
        name = node.input[0] if node.op_type == "Gather" else ""
        grid = grids.get(name)
        if grid is None:
            nodes.append(node)
            continue
        rows, out = f"{name}_quantized", node.output[0]
        if name in factors:  # stored as the product reads it
            rows, shape = f"{rows}_rows", f"{name}_quantized_shape"
            if shape not in values:
                values[shape] = numpy_helper.from_array(np.asarray([len(grid.levels), -1]), shape)
                ahead.append(helper.make_node("Reshape", [f"{name}_quantized", shape], [rows]))
        elif rows not in values:
            made, widening = constants(name, grid)
            made[rows] = stored_levels(grid).reshape(len(grid.levels), -1)
            values |= {key: numpy_helper.from_array(value, key) for key, value in made.items()}
            ahead += widening
        values.pop(name, None)
        settings = {"bits": grid.bits, "block_size": BLOCK, "gather_axis": 0, "quantize_axis": 1}
        if grid.minimum is None:
            nodes.append(_node("GatherBlockQuantized", [rows, node.input[1], f"{name}_scale"], out, **settings))
            continue
        spread = f"{name}_members_turned"
        values[spread] = numpy_helper.from_array(np.ascontiguousarray(members(grid.levels.shape[1]).T), spread)
        nodes += [
            _node("GatherBlockQuantized", [rows, node.input[1], f"{name}_scale"], f"{out}_quantized", **settings),
            helper.make_node("Gather", [f"{name}_offset", node.input[1]], [f"{out}_offset_rows"], axis=0),
            helper.make_node("MatMul", [f"{out}_offset_rows", spread], [f"{out}_offset"]),
            helper.make_node("Add", [f"{out}_quantized", f"{out}_offset"], [out]),
        ]
    graph.replace_nodes(model.graph, [*ahead, *nodes])
    graph.replace_initializers(model.graph, values.values())


def _check(model: Any, before: Mapping[str, Any], sideways: Collection[str], grids: Mapping[str, Grid]) -> None:
    """Read back what was written: each weight, to the bit."""
    from onnx import numpy_helper

    found = {item.name: numpy_helper.to_array(item) for item in restored.restored(model).graph.initializer}
    for name in grids:
        wanted = before[name].T if name in sideways else before[name]
        if name not in found or not np.array_equal(found[name], wanted):
            raise ConversionError(f"what was written for '{name}' does not stand for it", expected="equal bits")
