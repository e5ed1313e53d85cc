"""Read a Core ML artifact for the processors of Apple's devices: the reference executor tells every shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from stages.accelerators import compute_plan, neural_engine
from stages.accelerators.graph import Accelerator, Graph, Operator, Tensor
from stages.core.errors import ArtifactError
from stages.coreml import open_program
from stages.coreml.dtypes import Array
from stages.coreml.ir import Literal, Named, Operation
from stages.coreml.program import Program
from stages.coreml.values import TensorType
from stages.targets.base import read_signature
from stages.targets.coreml_metal import POSITION
from stages.targets.coreml_metal.runtime import PACKAGE
from stages.tasks.base import DECODE, IDS

ACCELERATORS: tuple[Accelerator, ...] = neural_engine.PROCESSORS
SINCE = {"CoreML5": 15, "CoreML6": 16, "CoreML7": 17, "CoreML8": 18, "CoreML9": 26}
"""Set of operations that a program is written in → the iOS that brought it (coremltools 9, `_OPSET` beside its
specification versions)."""


def graphs(artifact: Path) -> list[Graph]:
    """Read what the program computes: of one text at the smallest length, of a decoder for one token.

    Shares of multiply-accumulates hardly depend on the length, and what the executor computes does.

    Raises:
        ArtifactError: the package is missing, damaged, or uses what the executor has no definition of.
    """
    signature = read_signature(artifact)
    if not (artifact / PACKAGE).is_dir():
        raise ArtifactError(f"'{artifact}' has no {PACKAGE}", next_step="run `dvc repro`")
    program = open_program(artifact / PACKAGE)
    length = 1 if program.states else min(signature.sequence_lengths)
    shapes = dict[str, tuple[int, ...]]()

    def keep(operation: Operation, named: Named, raw: Array, stored: Array) -> None:  # noqa: ARG001
        shapes[named.name] = stored.shape

    one, zero = np.ones((1, length), np.int32), np.zeros((1, length), np.int32)
    known = {IDS: zero, POSITION: zero[0, :1]}
    given = {item.name: known.get(item.name, one) for item in program.inputs}
    shapes |= {name: value.shape for name, value in given.items()}
    program.run(given, state=program.make_state() if program.states else None, observe=keep)
    name = DECODE if program.states else f"length_{length}"
    plan = compute_plan.planned(artifact / PACKAGE)
    told_by = compute_plan.SOURCE if plan else ""
    return [Graph(name, tuple(_operators(program, shapes, plan)), program.function.opset, told_by)]


def needs(graphs: Sequence[Graph]) -> dict[str, float]:
    """Return the oldest iOS that opens it. Core ML plans its memory by itself, for the processors that it chooses."""
    known = [SINCE[graph.opset] for graph in graphs if graph.opset in SINCE]
    return {"ios_version_min": float(max(known))} if known else {}


def _operators(
    program: Program, shapes: Mapping[str, tuple[int, ...]], plan: Mapping[str, frozenset[str]]
) -> list[Operator]:
    known = program.known
    types = {item.name: item.type for item in program.function.inputs} | dict(known.types)
    ranged = any(item.ranges is not None for item in program.inputs)
    open_sizes = {name for name, kind in types.items() if isinstance(kind, TensorType) and kind.fixed is None}

    def tensor(name: str) -> Tensor:
        kind = types.get(name)
        inner = getattr(kind, "tensor", kind)
        fixed = inner.fixed if isinstance(inner, TensorType) else None
        dtype = inner.dtype.name if isinstance(inner, TensorType) else ""
        return Tensor(name, dtype, shapes.get(name, fixed), constant=name in known.constants)

    found = []
    for operation in program.function.block.operations:
        if operation.outputs and all(item.name in known.constants for item in operation.outputs):
            continue  # weights, and how they are compressed
        arguments = {key: [_argument(one, tensor) for one in ones] for key, ones in operation.inputs.items()}
        given = tuple(one for key in sorted(arguments, key=_order) for one in arguments[key])
        outputs = tuple(tensor(item.name) for item in operation.outputs) or (tensor(operation.output),)
        found.append(
            Operator(
                kind=operation.type,
                inputs=given,
                outputs=outputs,
                macs=_macs(operation.type, arguments, outputs[0], _flag(program, operation, "transpose_x")),
                module=_module(given),
                options={
                    "planned": plan.get(outputs[0].name),
                    "ranged": ranged and any(one.name in open_sizes for one in (*given, *outputs) if one),
                },
            )
        )
    return found


def _order(key: str) -> tuple[bool, str]:
    """Put what is computed before what is said of it."""
    return key not in ("x", "values", "a", "input", "data"), key


def _argument(one: str | Literal, tensor: Any) -> Tensor | None:
    if isinstance(one, str):
        found: Tensor = tensor(one)
        return found
    kind = one.type
    return Tensor("", kind.dtype.name, kind.fixed, constant=True) if isinstance(kind, TensorType) else None


def _flag(program: Program, operation: Operation, name: str) -> bool:
    for one in operation.inputs.get(name, ()):
        value = one.value if isinstance(one, Literal) else program.known.constants.get(one, False)
        return bool(np.asarray(value))
    return False


def _macs(kind: str, arguments: Mapping[str, list[Tensor | None]], result: Tensor, turned: bool) -> int:
    """Count multiply-accumulates of matrix products, convolutions, and attention in one operation."""
    shapes = {key: ones[0].shape or () for key, ones in arguments.items() if ones and ones[0] is not None}
    if kind == "linear":
        return result.size * shapes["x"][-1]
    if kind == "matmul":
        return result.size * shapes["x"][-2 if turned else -1]
    if kind == "conv":
        return result.size * prod(shapes["weight"][1:])
    if kind == "scaled_dot_product_attention":
        return 2 * result.size * shapes["key"][-2]
    return 0


def _module(given: tuple[Tensor | None, ...]) -> str:
    """Return what a weight's name says: `model_bert_pooler_dense`; coremltools writes underscores for dots."""
    names = [one.name for one in given if one is not None and one.constant]
    return next(
        (name.partition(f"_{part}")[0] for name in names for part in ("weight", "bias") if f"_{part}" in name), ""
    )
