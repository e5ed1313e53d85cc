"""Read the weights of an ONNX artifact back as fp32, whatever they are stored as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.artifact import read_json
from stages.core.errors import ArtifactError
from stages.measure import rounding
from stages.targets.base import QUANTIZATION
from stages.targets.onnx_cpu import graph, integers, restored

PRODUCTS = {"MatMul", *graph.INTEGER_PRODUCTS} - set(graph.PACKED)
INTEGERS = (np.int8, np.uint8)


def weights(artifact: Path) -> dict[str, NDArray[np.float32]]:
    """List every stored weight of two dimensions or more and 1,024 elements or more, dequantised.

    Returns:
        Initialiser → fp32; the second factor of a matrix product is turned to [out, in], as torch has it.

    Raises:
        ArtifactError: the model cannot be read, or an integer weight has no scale.
    """
    from onnx import numpy_helper

    model = graph.load(artifact / graph.MODEL)
    try:
        if of_source(artifact):
            model = restored.restored(model)
        return _read(model, {item.name: numpy_helper.to_array(item) for item in model.graph.initializer})
    except (IndexError, TypeError, ValueError) as error:
        raise ArtifactError(f"cannot read weights of '{artifact}': {error}", next_step="run `dvc repro`") from error


def of_source(artifact: Path) -> bool:
    """Whether an artifact's weights are those of the teacher's file."""
    path = artifact / QUANTIZATION
    return path.is_file() and read_json(path)["asked"]["kind"] == "source"


def reach(value: NDArray[np.float32], granularity: str) -> NDArray[np.float32]:
    """Return what each scale of a weight has to cover: the largest sum of two neighbours, which tables need not."""
    if granularity == "block_32":
        return rounding.reach(value, granularity)
    pairs = integers.pair_reach(value.T, per_channel=granularity == "channel")
    return np.asarray(pairs.reshape(-1, 1))


def _read(model: Any, values: dict[str, Any]) -> dict[str, NDArray[np.float32]]:
    sideways = turned(model)
    packed = {
        node.input[graph.PACKED[graph.operator(node)]]
        for node in model.graph.node
        if graph.operator(node) in graph.PACKED
    }
    found, rotations = {}, graph.rotations(model)
    for name, value in values.items():
        if name in rotations or value.ndim < 2 or value.size * (2 if name in packed else 1) < 1024:
            continue
        if value.dtype in INTEGERS:
            value = _dequantised(name, values, model)
        elif value.dtype.kind != "f":
            continue
        wide = np.asarray(value, np.float32)
        found[name] = wide.swapaxes(-1, -2) if name in sideways else wide
    return found


def turned(model: Any) -> set[str]:
    """Names of initialisers that are stored as [in, out]."""
    expanded = graph.expansions(model)
    found = set()
    for node in model.graph.node:
        if graph.operator(node) in PRODUCTS or (
            graph.operator(node) == "Gemm" and not graph.gemm_settings(node)["transB"]
        ):
            found.add(expanded.get(node.input[1], (node.input[1], ""))[0])
    return found


def unpacked(name: str, values: dict[str, Any], model: Any) -> Any:
    """Levels of an integer weight, in the shape of the matrix that they stand for."""
    for node in model.graph.node:
        if graph.operator(node) in graph.PACKED and node.input[graph.PACKED[graph.operator(node)]] == name:
            if graph.attributes(node)["bits"] == 8:
                return integers.centred(values[name])
            width = graph.attributes(node).get("K", 2 * values[name].shape[-1])
            return integers.unpacked(values[name], width)
    return values[name]


def scale_and_zero(name: str, values: dict[str, Any], model: Any) -> tuple[str, str | None]:
    """Find what expands an integer weight.

    Returns:
        The initialisers of its scale and of its zero point (None where there is none); both broadcast to the weight,
        or, of 4 bits, have one number per block.

    Raises:
        ArtifactError: nothing reads the weight, or nothing scales it.
    """
    known = graph.views(model)
    readers = (node for node in model.graph.node if name in node.input and node.output[0] not in known)
    reader = next(readers, None)
    if reader is None:
        raise ArtifactError(f"integer weight '{name}' is not used", next_step="run `dvc repro`")
    zero = ""
    if graph.operator(reader) in graph.INTEGER_PRODUCTS:
        scale, zero, _ = graph.integer_operands(reader)
    elif graph.operator(reader) in graph.PACKED:
        scale = reader.input[2]
    else:
        scale = _scale_of(reader, values, model)
    scale = graph.halves(model).get(scale, scale)
    if scale not in values:
        raise ArtifactError(f"integer weight '{name}' has no scale", next_step="run `dvc repro`")
    return scale, zero if zero in values else None


def _dequantised(name: str, values: dict[str, Any], model: Any) -> Any:
    scale, zero = scale_and_zero(name, values, model)
    levels, steps = unpacked(name, values, model).astype(np.float32), values[scale].astype(np.float32)
    if levels.shape != values[name].shape:
        steps = integers.per_element(steps, levels.shape[1])
    return (levels - (0 if zero is None else values[zero].astype(np.float32))) * steps


def _scale_of(reader: Any, values: dict[str, Any], model: Any) -> str:
    """Follow integers → Cast → Mul; names do not lead there, since equal initialisers are merged."""
    makers = {output: node for node in model.graph.node for output in node.output}
    uses = {source: node for node in model.graph.node for source in node.input}
    cast = reader if graph.operator(reader) == "Cast" else uses.get(reader.output[0])
    if cast is None or graph.operator(cast) != "Cast":
        return ""
    product = uses.get(cast.output[0])
    if product is None or graph.operator(product) != "Mul":
        return ""
    # One for all rows, or looked up for each.
    near = [source for source in product.input if source != cast.output[0]]
    far = [source for name in near if name in makers for source in makers[name].input]
    return next((name for name in (*near, *far) if name in values), "")
