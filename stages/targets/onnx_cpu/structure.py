"""Read an ONNX artifact as the computation it stands for: quantisation taken away, weights decompressed."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.errors import ArtifactError
from stages.measure.structure import Allowed, Constant, Graph, Input, Node, Rounded, Value, uniform
from stages.targets.onnx_cpu import graph, integers


def read(artifact: Path) -> Graph:
    """Return output → value.

    Args:
        artifact: output of `convert` or `quantize`.

    Raises:
        ArtifactError: the file cannot be read, or quantises in a form that no precision of ours has.
    """
    model = graph.load(artifact / graph.MODEL)
    reader = _Reader(model.graph)
    try:
        return {item.name: reader.value(item.name) for item in model.graph.output}
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"cannot follow the graph of '{artifact}': {error!r}", next_step="run `dvc repro`") from (
            error
        )


class _Reader:
    """Follows names from the outputs to what computes them, each once."""

    def __init__(self, proto: Any) -> None:
        from onnx import TensorProto, numpy_helper

        self._arrays = {item.name: numpy_helper.to_array(item) for item in proto.initializer}
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
        lookup = self._integer_lookup(node)
        if lookup is not None:
            return [source for source in lookup.input[1:] if source]
        product = self._integer_product(node)
        return [source for source in node.input if source] if product is None else [product]

    def _make(self, name: str) -> Value:
        if name in self._arrays:
            return Constant(name, self._arrays[name])
        node = self._makers[name]
        lookup = self._integer_lookup(node)
        if lookup is not None:
            levels, scale = self._arrays[lookup.input[0]], self._table_scale(node)
            table = self._expanded(lookup.input[0], scale, uniform(scale, levels, 8))
            rest = {str(index): self._values[source] for index, source in enumerate(lookup.input) if index}
            return Node(lookup.op_type, name, {"0": table, **rest}, graph.attributes(lookup))
        if self._integer_product(node) is not None:
            return self._multiplied(node, name)
        if node.op_type == "Gemm":
            return self._product(node, name)
        inputs = {str(index): self._values[source] for index, source in enumerate(node.input) if source}
        return Node(node.op_type, name, inputs, graph.attributes(node), list(node.output).index(name))

    def _integer_product(self, node: Any) -> str | None:
        """Return the float activation that an operator multiplies by a constant's integers, or None.

        Its integers come from the operator itself, or from a QuantizeLinear with the very grid they are read by.
        """
        if node.op_type not in graph.INTEGER_PRODUCTS or node.input[1] not in self._arrays:
            return None
        if node.op_type == "DynamicQuantizeMatMul":
            return str(node.input[0])
        maker = self._makers.get(node.input[0])
        sound = maker is not None and maker.op_type == "QuantizeLinear" and list(maker.input[1:]) == node.input[2:5:2]
        return str(maker.input[0]) if maker is not None and sound else None

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
        steps, levels = self._arrays[scale], self._arrays[node.input[1]]
        reach = partial(integers.pair_reach, per_channel=steps.ndim > 0)
        weight = self._expanded(node.input[1], steps, uniform(steps, levels, 8, reach))
        inputs = {"0": activation, "1": weight}
        if not bias:
            return Node("MatMul", name, inputs)
        product = Node("MatMul", f"{name} before its bias", inputs)
        return Node("Add", name, {"0": product, "1": Constant(bias, self._arrays[bias])})

    def _expanded(self, name: str, scale: Any, allowed: Allowed) -> Constant:
        return Constant(name, self._arrays[name].astype(np.float32) * scale, allowed)

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

    def _integer_lookup(self, node: Any) -> Any:
        """Return the Gather or Slice of integers whose result this Mul scales back, or None."""
        lookup = self._behind_cast(node)
        if lookup is None or lookup.input[0] not in self._arrays:
            return None
        scale = self._other_input(node)
        rows = self._makers.get(scale)
        if scale in self._arrays:
            return lookup
        by_row = rows is not None and rows.op_type == "Gather" and rows.input[0] in self._arrays
        return lookup if rows is not None and by_row and rows.input[1] == lookup.input[1] else None

    def _behind_cast(self, node: Any) -> Any:
        if node.op_type != "Mul":
            return None
        for source in node.input:
            cast = self._makers.get(source)
            if cast is not None and cast.op_type == "Cast":
                maker = self._makers.get(cast.input[0])
                if maker is not None and maker.op_type in {"Gather", "Slice"}:
                    return maker
        return None

    def _other_input(self, node: Any) -> str:
        """The factor that is not the cast result."""
        casts = [name for name in node.input if name in self._makers and self._makers[name].op_type == "Cast"]
        return str(next(name for name in node.input if name != casts[0]))

    def _table_scale(self, node: Any) -> Any:
        """Scale of a table: one number, one a column, or looked up row by row with the same ids."""
        scale = self._other_input(node)
        return self._arrays[scale] if scale in self._arrays else self._arrays[self._makers[scale].input[0]]
