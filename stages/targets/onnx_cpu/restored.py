"""Read weights that are stored as in a GGUF file back into the products and lookups of fp32 matrices they stand for.

Only what computes exactly that is replaced: the operators of `sourced`, each with the settings and constants it is
written with. Anything else stays as it is, and is a difference to who compares.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.core.packing import unpack
from stages.targets.onnx_cpu import graph, source_grid
from stages.targets.onnx_cpu.integers import BLOCK
from stages.targets.onnx_cpu.source_grid import Grid, identity, members

KEPT = "_quantized"
"""How the name of stored levels ends: before it stands the weight's own."""


class _Stored(NamedTuple):
    """Initialisers that a weight is made of; `least` is '' where there is no minimum."""

    levels: str
    scale: str
    least: str


class _Read(NamedTuple):
    """What operators stand for: a product with a weight, or a lookup in it."""

    op: str
    source: str
    weight: _Stored


def restored(model: Any) -> Any:
    """Return a model of the same inputs and outputs that computes in fp32 what this one stands for.

    Products become `Gemm` with the matrix [out, in], whatever the activation's axes: it is for reading, not to be run.
    """
    from onnx import helper, numpy_helper

    reader = _Reader(model)
    reached: dict[str, _Read | None] = {}
    pending = [item.name for item in model.graph.output]
    while pending:
        name = pending.pop()
        if name in reached or name not in reader.makers:
            continue
        found = reached[name] = reader.read(name)
        pending += [found.source] if found else [source for source in reader.makers[name].input if source]
    names: dict[_Stored, str] = {}
    values: dict[str, NDArray[np.float32]] = {}
    nodes = []
    for node in model.graph.node:
        kept = [name for name in node.output if name in reached]
        found = reached[kept[0]] if kept else None
        if found is None:
            nodes += [node] if kept else []
            continue
        if found.weight not in names:
            name = found.weight.levels.removesuffix(KEPT)
            names[found.weight] = name if name not in values else found.weight.scale
            values[names[found.weight]] = reader.value(found.weight)
        weight = names[found.weight]
        settings = {"axis": 0} if found.op == "Gather" else {"transB": 1}
        read = [weight, found.source] if found.op == "Gather" else [found.source, weight]
        nodes.append(helper.make_node(found.op, read, [kept[0]], name=node.name, **settings))
    out = type(model)()
    out.CopyFrom(model)
    graph.replace_nodes(out.graph, nodes)
    used = {name for node in nodes for name in node.input}
    own = [item for item in out.graph.initializer if item.name in used and item.name not in values]
    made = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in values.items()]
    graph.replace_initializers(out.graph, [*own, *made])
    return out


class _Reader:
    """Recognises what `sourced` writes."""

    def __init__(self, model: Any) -> None:
        from onnx import numpy_helper

        self.arrays = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
        self.makers = {name: node for node in model.graph.node for name in node.output if name}

    def value(self, weight: _Stored) -> NDArray[np.float32]:
        """What stored integers stand for: fp32 [rows, columns]."""
        levels, scale = self.arrays[weight.levels], self.arrays[weight.scale]
        rows, columns = len(levels), scale.shape[1] * BLOCK
        bits = 8 * levels.size // (rows * columns)
        wide = unpack(levels.reshape(-1), rows * columns, 4, signed=False) if bits == 4 else levels
        least = self.arrays[weight.least] if weight.least else None
        return Grid(bits, wide.reshape(rows, columns), scale, least).expanded()

    def read(self, name: str) -> _Read | None:
        """Recognise what makes a value."""
        kind = graph.operator(self.makers[name])
        if kind == "Add":
            return self._with_offset(name)
        if kind == "ReduceSum":
            return self._of_parts(name)
        if kind == "MatMulNBits":
            return self._blocks(name, 4, graph.FLOATS)
        return self._rows(name) if kind == "GatherBlockQuantized" else None

    def _made(self, name: str, kind: str, count: int, **settings: Any) -> list[str] | None:
        """Inputs of what makes a value, where it is an operator of this kind with these settings and no others."""
        node = self.makers.get(name)
        if node is None or graph.operator(node) != kind or len(node.input) != count or len(node.output) != 1:
            return None
        return list(node.input) if graph.attributes(node) == settings else None

    def _halves(self, name: str) -> str:
        """The fp16 initialiser that a value widens, or ''."""
        read = self._made(name, "Cast", 1, to=1)
        stored = self.arrays.get(read[0]) if read else None
        return read[0] if read and stored is not None and stored.dtype == np.float16 and stored.ndim == 2 else ""

    def _scale(self, name: str) -> str:
        """The initialiser of a scale: of 16 bits, or fp32."""
        found = self.arrays.get(name)
        return name if found is not None and found.dtype == np.float32 and found.ndim == 2 else self._halves(name)

    def _blocks(self, name: str, bits: int, level: int) -> _Read | None:
        node = self.makers.get(name)
        scale = self._scale(node.input[2]) if node is not None and len(node.input) == 3 else ""
        levels = self.arrays.get(node.input[1]) if node is not None and scale else None
        if node is None or levels is None or levels.dtype != np.uint8:
            return None
        rows, blocks = self.arrays[scale].shape
        sizes = {"K": blocks * BLOCK, "N": rows, "bits": bits, "block_size": BLOCK, "accuracy_level": level}
        fits = levels.shape == (rows, blocks, BLOCK * bits // 8)
        read = self._made(name, "MatMulNBits", 3, **sizes) if fits else None
        return None if read is None else _Read("Gemm", read[0], _Stored(read[1], scale, ""))

    def _rows(self, name: str) -> _Read | None:
        node = self.makers[name]
        scale = self._scale(node.input[2]) if len(node.input) == 3 else ""
        if not scale:
            return None
        view = self._made(node.input[0], "Reshape", 2)
        rows, blocks = self.arrays[scale].shape
        if view and not (view[1] in self.arrays and self.arrays[view[1]].tolist() == [rows, -1]):
            return None
        stored = view[0] if view else node.input[0]
        levels = self.arrays.get(stored)
        if levels is None or levels.dtype != np.uint8 or len(levels) != rows:
            return None
        bits = 8 * levels.size // (rows * blocks * BLOCK)
        settings = {"bits": bits, "block_size": BLOCK, "gather_axis": 0, "quantize_axis": 1}
        read = self._made(name, "GatherBlockQuantized", 3, **settings) if bits in source_grid.MIDDLE else None
        return None if read is None else _Read("Gather", read[1], _Stored(stored, scale, ""))

    def _offset(self, name: str, scale: str) -> str:
        """The minimum, of which with a scale the value of the level in the middle is made; or ''."""
        read = self._made(name, "Add", 2)
        times = self._made(read[1], "Mul", 2) if read else None
        least = self._halves(read[0]) if read else ""
        if not times or not least or self._halves(times[0]) != scale or times[1] not in self.arrays:
            return ""
        alike = self.arrays[least].shape == self.arrays[scale].shape
        return least if alike and self._is(times[1], np.asarray(source_grid.MIDDLE[4], np.float32)) else ""

    def _is(self, name: str, wanted: NDArray[Any]) -> bool:
        found = self.arrays.get(name)
        return found is not None and found.dtype == wanted.dtype and np.array_equal(found, wanted)

    def _with_offset(self, name: str) -> _Read | None:
        """A sum of what blocks give and of what their offsets add to it."""
        parts = self._made(name, "Add", 2)
        if not parts or not all(part in self.makers for part in parts):
            return None
        main, times = self.read_blocks(parts[0]), self._made(parts[1], "MatMul", 2)
        if main is None or not times:
            return None
        width = self.arrays[main.weight.scale].shape[1] * BLOCK
        if main.op == "Gemm":
            sums, turned = self._made(times[0], "MatMul", 2), self._made(times[1], "Transpose", 1)
            least = self._offset(turned[0], main.weight.scale) if turned else ""
            sound = sums is not None and sums[0] == main.source and self._is(sums[1], members(width))
        else:
            rows = self._made(times[0], "Gather", 2, axis=0)
            least = self._offset(rows[0], main.weight.scale) if rows else ""
            sound = rows is not None and rows[1] == main.source and self._is(times[1], members(width).T)
        return main._replace(weight=main.weight._replace(least=least)) if sound and least else None

    def read_blocks(self, name: str) -> _Read | None:
        """Recognise a product with, or a lookup in, blocks of 4 bits."""
        kind = graph.operator(self.makers[name])
        found = self._rows(name) if kind == "GatherBlockQuantized" else self._blocks(name, 4, graph.FLOATS)
        return found if found and self.arrays[found.weight.levels].size * 2 == self._elements(found) else None

    def _elements(self, found: _Read) -> int:
        return int(self.arrays[found.weight.scale].size) * BLOCK

    def _of_parts(self, name: str) -> _Read | None:
        """The sum of the products of three activations of 8 bits, which together are one."""
        summed = self._made(name, "ReduceSum", 2, keepdims=1)
        main = self._blocks(summed[0], 8, graph.INTEGERS) if summed and self._is(summed[1], np.asarray([0])) else None
        parts = self._made(main.source, "Concat", 3, axis=0) if main else None
        if main is None or not parts:
            return None
        width = self.arrays[main.weight.scale].shape[1] * BLOCK
        sound = all(self._leaves(read, left, width) for read, left in ((parts[0], parts[1]), (parts[1], parts[2])))
        return main._replace(source=parts[0]) if sound else None

    def _leaves(self, read: str, left: str, width: int) -> bool:
        """Whether a value is what the kernel leaves over of another."""
        taken = self._made(left, "Sub", 2)
        sizes = {"K": width, "N": width, "bits": 8, "block_size": BLOCK, "accuracy_level": graph.INTEGERS}
        rounded = self._made(taken[1], "MatMulNBits", 4, **sizes) if taken and taken[0] == read else None
        if not rounded or rounded[0] != read:
            return False
        return all(map(self._is, rounded[1:], identity("", width).values()))
