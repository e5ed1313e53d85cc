"""Read a Core ML artifact as the computation it stands for: casts and quantisation taken away, weights decompressed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError
from stages.coreml import open_program
from stages.coreml.ir import Literal, Named, Operation
from stages.coreml.program import Program
from stages.coreml.values import TensorType
from stages.coreml.weight_bounds import allowed_error
from stages.measure.structure import (
    COARSER,
    SMALLEST_STEP,
    Allowed,
    Constant,
    Graph,
    Input,
    Node,
    Rounded,
    Value,
    exact,
    half,
)
from stages.targets.coreml_metal import stored
from stages.targets.coreml_metal.runtime import PACKAGE

INTEGERS = ("int", "uint")


def read(artifact: Path) -> Graph:
    """Return output → value, and of each state what the call leaves in it.

    What is read from a state is what was written to it last in the call, or what it held before.

    Raises:
        ArtifactError: the package is missing, damaged, or uses what the executor has no definition of.
    """
    if not (artifact / PACKAGE).is_dir():
        raise ArtifactError(f"'{artifact}' has no {PACKAGE}", next_step="run `dvc repro`")
    program = open_program(artifact / PACKAGE)
    block = program.function.block
    values: dict[str, Value] = {item.name: Input(_described(item)) for item in program.function.inputs}
    kept = {name: values[name] for name in program.states}
    makers = {item.name: operation for operation in block.operations for item in operation.outputs}
    for operation in block.operations:
        if operation.blocks:
            raise ArtifactError(f"{operation} has branches", expected="a program without control flow")
        if operation.type == "write_state":
            (state,), (written,) = operation.inputs["input"], operation.inputs["data"]
            if not isinstance(state, str) or not isinstance(written, str):
                raise ArtifactError(f"{operation} writes no value", expected="what another operation made")
            kept[state] = values[written]
        if operation.type == "read_state":
            values[operation.output] = kept[str(operation.inputs["input"][0])]
            continue
        for number, item in enumerate(operation.outputs):
            if item.name in program.known.constants:
                values[item.name] = _constant(program, makers[item.name], item.name)
            else:
                node = Node(operation.type, item.name, dict(_inputs(operation, values)), {}, number)
                values[item.name] = _rounding(program, operation, node) or _wrapped_index(node) or node
    return {name: values[name] for name in block.outputs} | {f"state {name}": value for name, value in kept.items()}


def _described(item: Named) -> str:
    """Say what a caller passes in; a state's numbers have the precision of what is written to it."""
    kind = item.type
    return f"{item.name} {kind}" if isinstance(kind, TensorType) else f"{item.name} state{_shape(kind)}"


def _shape(kind: Any) -> str:
    return str(list(kind.tensor.shape))


def _rounding(program: Program, operation: Operation, node: Node) -> Value | None:
    """Return what an operation that only changes a number format passes on; None where it does more."""
    if operation.type == "quantize":
        return _on_grid(node, operation.outputs[0].type)
    if operation.type == "dequantize":
        (source,) = operation.inputs["input"]
        rounded = node.inputs["input"]
        mine = _on_grid(node, program.known.types[source]) if isinstance(source, str) else None
        same = (
            mine is not None and isinstance(rounded, Rounded) and (mine.low, mine.high) == (rounded.low, rounded.high)
        )
        return rounded if same else None
    if operation.type == "cast":
        (source,) = operation.inputs["x"]
        before, after = program.known.types[source] if isinstance(source, str) else None, operation.outputs[0].type
        # To an integer or a truth value a float loses more than digits.
        if isinstance(before, TensorType) and isinstance(after, TensorType):
            return node.inputs["x"] if after.dtype.kind == "float" or before.dtype.kind in INTEGERS else None
    return None


def _on_grid(node: Node, kind: Any) -> Rounded | None:
    scale, zero = node.inputs["scale"], node.inputs.get("zero_point")
    if not isinstance(scale, Constant) or not isinstance(zero, Constant | None) or not isinstance(kind, TensorType):
        return None
    limits, point = np.iinfo(kind.dtype.numpy), 0.0 if zero is None else float(np.asarray(zero.value))
    return Rounded.on_grid(
        node.inputs["input"], float(np.asarray(scale.value)), point, int(limits.min), int(limits.max)
    )


def _wrapped_index(node: Node) -> Value | None:
    """Return x where the node is `select(x >= 0, x, x + size)`: coremltools guards some lookups so, token ids too."""
    condition, chosen = node.inputs.get("cond"), node.inputs.get("a")
    if node.op != "select" or not isinstance(condition, Node) or condition.op != "greater_equal":
        return None
    bound = condition.inputs["y"]
    zero = isinstance(bound, Constant) and not np.any(bound.value)
    return chosen if zero and condition.inputs["x"] is chosen else None


def _inputs(operation: Operation, values: dict[str, Value]) -> Iterator[tuple[str, Value]]:
    for parameter, arguments in operation.inputs.items():
        for number, argument in enumerate(arguments):
            key = parameter if len(arguments) == 1 else f"{parameter}[{number}]"
            value = Constant(key, argument.value) if isinstance(argument, Literal) else values[argument]
            # -3 and 1 are the same axis of four, and coremltools writes now one, now the other.
            if operation.type == "transpose" and key == "perm" and isinstance(value, Constant):
                value = Constant(key, value.value % np.asarray(value.value).size)
            yield key, value


def _constant(program: Program, maker: Operation, name: str) -> Constant:
    value = program.known.constants[name]
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return Constant(name, value)
    return Constant(name, value, _allowed(program, maker, value))


def _allowed(program: Program, maker: Operation, value: NDArray[Any]) -> Allowed:
    if maker.type == "const":
        return half if value.dtype == np.float16 else exact
    found = stored.read(program, maker) if maker.type in stored.PARTS else None
    if found is None or found.levels.shape != value.shape:  # what a mask is yet to spread
        return lambda source: allowed_error(maker, program, source, value)
    if found.mask is not None:
        return _sparse(found.mask != 0, value)
    if found.table is not None:
        groups = len(found.table) if found.table.ndim > 1 else 1
        return lambda source: np.where(
            _at_centroid(source, value, groups), allowed_error(maker, program, source, value), 0
        )
    # A step may be no longer than the source's range asks for, in each block of one scale.
    share = COARSER / (2 ** (found.bits - 1) - 1)
    return lambda source: np.minimum(allowed_error(maker, program, source, value), found.covered(source) * share)


def _sparse(mask: NDArray[np.bool_], value: NDArray[Any]) -> Allowed:
    """What the mask keeps is held to the table, what it drops may not exceed what it keeps."""
    entries = np.unique(value[mask]).astype(np.float32)

    def allowed(source: NDArray[Any]) -> NDArray[Any]:
        if not mask.any():
            return np.zeros(source.shape, np.float32)
        kept = source[mask]
        nearest = np.abs(kept[:, None] - entries).min(axis=1) + 2 * half(kept)
        bound = np.full(source.shape, np.abs(kept).min(), np.float32)
        bound += half(bound)
        bound[mask] = np.where(_at_centroid(kept, value[mask]), nearest, 0)
        return bound

    return allowed


def _at_centroid(source: NDArray[Any], value: NDArray[Any], groups: int = 1) -> NDArray[np.bool_]:
    """Whether each element's table entry is the mean of all that share it, as k-means leaves it.

    A table of zeros is nearest to everything: distance to the nearest entry alone would explain any loss.

    Args:
        source: fp32.
        value: decompressed, of the same shape.
        groups: how many tables there are, each for as many slices of the first axis.
    """
    pairs = zip(np.split(source, groups), np.split(value, groups), strict=True)
    return np.concatenate([_at_means(*pair) for pair in pairs])


def _at_means(source: NDArray[Any], value: NDArray[Any]) -> NDArray[np.bool_]:
    entries, members, counts = np.unique(value, return_inverse=True, return_counts=True)
    members = members.reshape(-1)
    flat = source.reshape(-1).astype(np.float64)
    mean = np.bincount(members, flat) / counts
    deviation = np.sqrt(np.bincount(members, (flat - mean[members]) ** 2) / counts)
    near = np.abs(entries - mean) <= 2.0**-10 * np.abs(mean) + 0.1 * deviation + SMALLEST_STEP
    return np.asarray(near[members].reshape(source.shape))
