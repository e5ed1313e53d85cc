"""Read an ONNX artifact as the computation it stands for: quantisation taken away, weights decompressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stages.core.errors import ArtifactError
from stages.measure.structure import Constant, Graph, Input, Node, Rounded, Value, uniform
from stages.targets.onnx_cpu import graph


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
        product, lookup = self._integer_product(node), self._integer_lookup(node)
        if product is not None:
            return [self._makers[product.input[0]].input[0]]
        if lookup is not None:
            return [lookup.input[1]]
        if self._expands(node):
            return [] if node.input[0] in self._arrays else [self._makers[node.input[0]].input[0]]
        return [source for source in node.input if source]

    def _make(self, name: str) -> Value:
        if name in self._arrays:
            return Constant(name, self._arrays[name])
        node = self._makers[name]
        product, lookup = self._integer_product(node), self._integer_lookup(node)
        if product is not None:
            activation = self._values[self._makers[product.input[0]].input[0]]
            zero = self._arrays[product.input[3]] if len(product.input) > 3 else np.uint8(0)
            scale = self._weight_scale(node)
            return Node("MatMul", name, {"0": activation, "1": self._expanded(product.input[1], scale, zero)})
        if lookup is not None:
            table = self._expanded(lookup.input[0], self._table_scale(node), np.int8(0))
            return Node("Gather", name, {"0": table, "1": self._values[lookup.input[1]]}, _attributes(lookup))
        if self._expands(node):
            return self._dequantised(node)
        if node.op_type == "Gemm":
            return self._product(node, name)
        inputs = {str(index): self._values[source] for index, source in enumerate(node.input) if source}
        return Node(node.op_type, name, inputs, _attributes(node), list(node.output).index(name))

    def _expands(self, node: Any) -> bool:
        """Whether a DequantizeLinear gives back what a weight, or a QuantizeLinear with the same grid, holds."""
        if node.op_type != "DequantizeLinear":
            return False
        if node.input[0] in self._arrays:
            return True
        maker = self._makers[node.input[0]]
        return maker.op_type == "QuantizeLinear" and all(
            np.array_equal(self._arrays[mine], self._arrays[its])
            for mine, its in zip(node.input[1:], maker.input[1:], strict=True)
        )

    def _dequantised(self, node: Any) -> Value:
        source, step, point = node.input[0], self._arrays[node.input[1]], self._point(node)
        if source in self._arrays:
            return self._expanded(source, step, point, _attributes(node).get("axis", 1))
        value, limits = self._values[self._makers[source].input[0]], np.iinfo(point.dtype)
        if not isinstance(value, Constant):
            return Rounded.on_grid(value, float(step), float(point), limits.min, limits.max)
        levels = np.clip(np.rint(value.value / step) + point.astype(np.float32), limits.min, limits.max)
        rounded = (levels - point.astype(np.float32)) * step
        return Constant(value.name, rounded, uniform(step, levels, 8 * point.itemsize))

    def _point(self, node: Any) -> Any:
        return self._arrays[node.input[2]] if len(node.input) > 2 else np.zeros((), np.uint8)

    def _expanded(self, name: str, scale: Any, zero: Any, axis: int = -1) -> Constant:
        levels = self._arrays[name]
        if scale.ndim == 1 and scale.size > 1:
            shape = [1] * levels.ndim
            shape[axis] = scale.size
            scale, zero = scale.reshape(shape), zero.reshape(shape) if zero.size > 1 else zero
        value = (levels.astype(np.float32) - zero.astype(np.float32)) * scale
        return Constant(name, value, uniform(scale, levels, 8 * levels.itemsize))

    def _product(self, node: Any, name: str) -> Node:
        """Gemm as the product and the sum that it is: the dynamic quantiser splits it so."""
        settings = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0} | _attributes(node)
        first, second, *third = (self._values[source] for source in node.input if source)
        if settings["transB"] and isinstance(second, Constant):
            settings["transB"], second = 0, second.transposed()
        if settings != {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}:
            inputs = {str(index): value for index, value in enumerate((first, second, *third))}
            return Node("Gemm", name, inputs, settings)
        product = Node("MatMul", f"{name} before its bias", {"0": first, "1": second})
        if third and not self._bias_fits(node):
            return Node("Add", name, {"0": product, "1": third[0]}, {"bias scale": "not that of the product"})
        return Node("Add", name, {"0": product, "1": third[0]}) if third else product

    def _bias_fits(self, node: Any) -> bool:
        """Whether an integer bias has the scale of the product that it is added to, as ONNX Runtime requires."""
        makers = [self._makers[source] for source in node.input if source in self._makers]
        if [maker.op_type for maker in makers] != ["DequantizeLinear"] * 3:
            return True
        first, second, bias = (self._arrays[maker.input[1]] for maker in makers)
        return bool(np.allclose(bias, first * second, rtol=1e-5, atol=0))

    def _integer_product(self, node: Any) -> Any:
        """Return the MatMulInteger whose result this Mul scales back, or None.

        Before: `MatMul(x, weight)`. After: `MatMulInteger` of x's integers and the weight's with both zero points, its
        result cast and multiplied by the product of exactly the two scales, x's from the same DynamicQuantizeLinear.
        """
        product = self._behind_cast(node, "MatMulInteger")
        if product is None or len(product.input) != 4 or product.input[1] not in self._arrays:
            return None
        maker = self._makers.get(product.input[0])
        if maker is None or maker.op_type != "DynamicQuantizeLinear":
            return None
        scales = self._makers.get(self._other_input(node))
        if scales is None or scales.op_type != "Mul":
            return None
        expected = {maker.output[1], *(name for name in scales.input if name in self._arrays)}
        sound = set(scales.input) == expected and len(expected) == 2
        return product if sound and product.input[0::2] == [maker.output[0], maker.output[2]] else None

    def _integer_lookup(self, node: Any) -> Any:
        """Return the Gather of integers whose result this Mul scales back, or None."""
        lookup = self._behind_cast(node, "Gather")
        if lookup is None or lookup.input[0] not in self._arrays:
            return None
        scale = self._other_input(node)
        rows = self._makers.get(scale)
        if scale in self._arrays:
            return lookup
        by_row = rows is not None and rows.op_type == "Gather" and rows.input[0] in self._arrays
        return lookup if rows is not None and by_row and rows.input[1] == lookup.input[1] else None

    def _behind_cast(self, node: Any, op: str) -> Any:
        if node.op_type != "Mul":
            return None
        for source in node.input:
            cast = self._makers.get(source)
            if cast is not None and cast.op_type == "Cast":
                maker = self._makers.get(cast.input[0])
                if maker is not None and maker.op_type == op:
                    return maker
        return None

    def _other_input(self, node: Any) -> str:
        """The factor that is not the cast result."""
        casts = [name for name in node.input if name in self._makers and self._makers[name].op_type == "Cast"]
        return str(next(name for name in node.input if name != casts[0]))

    def _weight_scale(self, node: Any) -> Any:
        """Scales of the weight: the initialiser that is multiplied by the activation's scale."""
        return next(self._arrays[name] for name in self._makers[self._other_input(node)].input if name in self._arrays)

    def _table_scale(self, node: Any) -> Any:
        """Scale of a table: one number, or looked up row by row with the same ids."""
        scale = self._other_input(node)
        return self._arrays[scale] if scale in self._arrays else self._arrays[self._makers[scale].input[0]]


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper, numpy_helper

    found = {}
    for item in node.attribute:
        value = helper.get_attribute_value(item)
        found[item.name] = numpy_helper.to_array(value).tolist() if hasattr(value, "raw_data") else value
    return found
