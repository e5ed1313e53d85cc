"""Read an ONNX artifact as the computation it stands for: quantisation taken away, weights decompressed."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stages.core.artifact import read_json
from stages.core.errors import ArtifactError
from stages.measure.structure import Constant, Graph, Input, Node, Rounded, Value, half
from stages.targets.base import QUANTIZATION
from stages.targets.onnx_cpu import gptq, graph, integers, restored, stored


def read(artifact: Path) -> Graph:
    """Return output → value.

    Raises:
        ArtifactError: the file cannot be read, or quantises in a form that no precision of ours has.
    """
    model, asked = graph.load(artifact / graph.MODEL), _asked(artifact)
    try:
        reader = _Reader(restored.restored(model) if asked.of_source else model, asked)
        return {item.name: reader.value(item.name) for item in model.graph.output}
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"cannot follow the graph of '{artifact}': {error!r}", next_step="run `dvc repro`") from (
            error
        )


class _Asked(NamedTuple):
    """What a precision says of products with blocks of 4 bits.

    Attributes:
        level: of accuracy.
        within: steps that a weight may be off; None where each is the nearest level.
        of_source: whether weights are those of the teacher's file, none of them rounded.
    """

    level: int
    within: float | None
    of_source: bool


def _asked(directory: Path) -> _Asked:
    path = directory / QUANTIZATION
    asked = read_json(path)["asked"] if path.is_file() else {}
    parts = [asked, *(asked.get(share, {}) for share in ("low", "high"))]
    kinds = {part["kind"] for part in parts if part.get("granularity") == "block_32"}
    level = graph.INTEGERS if kinds & {"dynamic", "gptq"} else graph.FLOATS
    return _Asked(level, gptq.WITHIN if "gptq" in kinds else None, "source" in kinds)


class _Reader:
    """Follows names from the outputs to what computes them, each once."""

    def __init__(self, model: Any, asked: _Asked) -> None:
        from onnx import TensorProto, numpy_helper

        proto = model.graph
        self._asked = asked
        self._arrays = graph.viewed(model, {item.name: numpy_helper.to_array(item) for item in proto.initializer})
        multiplied = {node.input[1] for node in proto.node if graph.operator(node) in graph.INTEGER_PRODUCTS}
        self._turned = {source: view for view, source in graph.views(model).items() if view in multiplied}
        self._stored, self._halves = graph.expansions(model), graph.halves(model)
        self._makers = {output: node for node in proto.node for output in node.output}
        self._values: dict[str, Value] = {
            item.name: Input(f"{item.name} {TensorProto.DataType.Name(item.type.tensor_type.elem_type)}")
            for item in proto.input
        }

    def value(self, name: str) -> Value:
        # Depth first without recursion, which a graph of a thousand operators would exhaust.
        pending = [name]
        while pending:
            current = pending[-1]
            missing = [] if current in self._values else [x for x in self._needs(current) if x not in self._values]
            if missing:
                pending += missing
            else:
                pending.pop()
                if current not in self._values:
                    self._values[current] = self._make(current)
        return self._values[name]

    def _needs(self, name: str) -> list[str]:
        if name in self._arrays:
            return []
        node = self._makers[name]
        if name in self._stored:
            return []
        lookup = stored.lookup(node, self._makers, self._arrays)
        if lookup is not None:
            return [source for source in lookup[0].input[1:] if source]
        if self._is_block_lookup(node):
            return [node.input[1]]
        product = self._integer_product(node)
        return [source for source in node.input if source] if product is None else [product]

    def _make(self, name: str) -> Value:
        if name in self._arrays:
            return Constant(name, self._arrays[name])
        if name in self._stored:
            return self._constant(*self._stored[name])
        node = self._makers[name]
        if self._is_block_lookup(node):
            table = self._packed(node, node.input[0])
            return Node("Gather", name, {"0": table, "1": self._values[node.input[1]]}, _gather_axis(node))
        lookup = stored.lookup(node, self._makers, self._arrays)
        if lookup is not None:
            found, scale = lookup
            rest = {str(index): self._values[source] for index, source in enumerate(found.input) if index}
            inputs = {"0": self._table(found.input[0], scale), **rest}
            return Node(graph.operator(found), name, inputs, graph.attributes(found))
        if self._integer_product(node) is not None:
            return self._multiplied(node, name)
        if graph.operator(node) == "Gemm":
            return self._product(node, name)
        inputs = {str(index): self._values[source] for index, source in enumerate(node.input) if source}
        return Node(graph.operator(node), name, inputs, graph.attributes(node), list(node.output).index(name))

    def _is_block_lookup(self, node: Any) -> bool:
        return graph.changes_format(node, "GatherBlockQuantized") and node.input[0] in self._arrays

    def _integer_product(self, node: Any) -> str | None:
        """Return the float activation that an operator multiplies by a constant's integers, or None.

        Its integers come from the operator itself, or from a QuantizeLinear with the very grid they are read by.
        """
        op = graph.operator(node)
        sound = op in graph.INTEGER_PRODUCTS and graph.changes_format(node, op) and node.input[1] in self._arrays
        if not sound or (op == "MatMulNBits" and not self._is_sized(node)):
            return None
        if op in {"DynamicQuantizeMatMul", "MatMulNBits"}:
            return str(node.input[0])
        maker = self._makers.get(node.input[0])
        if maker is None or not graph.changes_format(maker, "QuantizeLinear"):
            return None
        return str(maker.input[0]) if list(maker.input[1:]) == node.input[2:5:2] else None

    def _is_sized(self, node: Any) -> bool:
        """Whether a product has as many outputs as rows, and its activations are of the type that was asked for."""
        settings = graph.attributes(node)
        return settings["N"] == len(self._arrays[node.input[1]]) and settings.get("accuracy_level") == self._asked.level

    def _multiplied(self, node: Any, name: str) -> Node:
        """The product, and the sum with a bias, that an integer operator stands for."""
        scale, zero, bias = graph.integer_operands(node)
        if zero:
            raise ValueError(f"'{zero}' moves the zero of a weight")
        activation = self._values[str(self._integer_product(node))]
        if node.op_type == "MatMulIntegerToFloat":
            step, point = self._arrays[node.input[2]], self._arrays[node.input[4]]
            limits = np.iinfo(point.dtype)
            activation = Rounded.on_grid(activation, float(step), float(point), limits.min, limits.max)
        if node.op_type == "MatMulNBits":
            weight = self._packed(node, node.input[1]).transposed()
        else:
            weight = self._constant(node.input[1], scale, pairwise=True)
        inputs = {"0": activation, "1": weight}
        if not bias:
            return Node("MatMul", name, inputs)
        product = Node("MatMul", f"{name} before its bias", inputs)
        return Node("Add", name, {"0": product, "1": Constant(bias, self._arrays[bias])})

    def _table(self, name: str, scale: str) -> Constant:
        """A table: one that is multiplied by as well has the grid of a factor."""
        if name not in self._turned:
            return self._constant(name, scale)
        return self._constant(self._turned[name], scale, pairwise=True).transposed()

    def _constant(self, name: str, scale: str, *, pairwise: bool = False) -> Constant:
        """What a stored tensor stands for, by its scale; of half precision, without one."""
        levels = self._arrays[name]
        if not scale:
            return Constant(name, levels.astype(np.float32), half if levels.dtype == np.float16 else None)
        found = stored.read(name, stored.Parts(scale), self._arrays)
        if not pairwise:
            return Constant(name, found.expanded, found.allowed())
        found.scale = self._arrays[scale].reshape(1, -1)  # of a table a scale for each row, which is a column here
        per_channel = self._arrays[scale].ndim > 0
        return Constant(name, found.expanded, found.allowed(partial(integers.pair_reach, per_channel=per_channel)))

    def _packed(self, node: Any, name: str) -> Constant:
        """What the integers of 4 bits that an operator reads stand for."""
        parts = stored.packed(node, self._arrays[name])
        parts = parts._replace(scale=self._halves.get(parts.scale, parts.scale))
        found = stored.read(name, parts, self._arrays)
        return Constant(name, found.expanded, found.allowed(within=self._asked.within))

    def _product(self, node: Any, name: str) -> Node:
        """Gemm as the product and the sum that it is: integer operators are given out as these."""
        settings = graph.gemm_settings(node)
        first, second, *third = (self._values[source] for source in node.input if source)
        if settings["transB"] and isinstance(second, Constant):
            settings["transB"], second = 0, second.transposed()
        if settings != {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}:
            inputs = {str(index): value for index, value in enumerate((first, second, *third))}
            return Node("Gemm", name, inputs, settings)
        product = Node("MatMul", f"{name} before its bias", {"0": first, "1": second})
        return Node("Add", name, {"0": product, "1": third[0]}) if third else product


def _gather_axis(node: Any) -> dict[str, Any]:
    return {"axis": graph.attributes(node)["gather_axis"]}
